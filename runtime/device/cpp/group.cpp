// A group of processes that add their tensors up, by c10d: over gloo, or over what a vendor's library brings.

#include "bridge.h"
#include "fault.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>

namespace {

using c10::intrusive_ptr;

struct Group {
  intrusive_ptr<c10d::Store> store;
  intrusive_ptr<c10d::Backend> in_memory;
  // For tensors on devices; null where they are brought into the processor's memory.
  intrusive_ptr<c10d::Backend> on_devices;

  // A vendor's backend takes tensors of its devices alone.
  c10d::Backend& of(const at::Tensor& tensor) const {
    return tensor.device().is_cpu() || !on_devices ? *in_memory : *on_devices;
  }
};

intrusive_ptr<c10d::Store> meet(
    uint16_t port, int listener, bool serves, int count, std::chrono::milliseconds patience) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = serves;
  options.numWorkers = static_cast<size_t>(count);
  options.timeout = patience;
  // libtorch would listen on every address of the machine; this socket listens on one of its own.
  if (listener >= 0) options.masterListenFd = listener;
  auto store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  store->setTimeout(patience);
  return store;
}

intrusive_ptr<c10d::Backend> in_memory(
    const intrusive_ptr<c10d::Store>& store, int rank, int count, std::chrono::milliseconds patience) {
  auto options = c10d::ProcessGroupGloo::Options::create(patience);
  // By default gloo would take the address that the machine's name stands for.
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, options);
}

intrusive_ptr<c10d::Backend> bridged(
    const char* bridge,
    const intrusive_ptr<c10d::Store>& store,
    int rank,
    int count,
    std::chrono::milliseconds patience) {
  void* library = dlopen(bridge, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  auto* make = reinterpret_cast<ferry::Bridge*>(dlsym(library, "ferry_collective"));
  if (make == nullptr) throw std::runtime_error(dlerror());
  auto own = c10::make_intrusive<c10d::PrefixStore>("bridge", store);
  return intrusive_ptr<c10d::Backend>::reclaim(make(own, rank, count, patience));
}

std::vector<at::Tensor> one(const at::Tensor* tensor) { return {*tensor}; }

}  // namespace

extern "C" {

// Joins the group that meets at a port of this machine. `bridge` is the path of a library that adds up on the devices
// themselves, or empty.
Group* ferry_group_join(
    const char* bridge, uint16_t port, int listener, int serves, int rank, int count, int64_t patience_ms) {
  return ferry::guarded<Group*>(nullptr, [&] {
    std::chrono::milliseconds patience(patience_ms);
    auto store = meet(port, listener, serves != 0, count, patience);
    auto near = in_memory(store, rank, count, patience);
    intrusive_ptr<c10d::Backend> there;
    if (*bridge != '\0') there = bridged(bridge, store, rank, count, patience);
    return new Group{std::move(store), std::move(near), std::move(there)};
  });
}

void ferry_group_leave(Group* group) {
  ferry::guarded(0, [&] {
    delete group;
    return 0;
  });
}

// Puts the sum over all processes into the tensor.
int ferry_group_sum(Group* group, const at::Tensor* tensor) {
  return ferry::guarded(-1, [&] {
    auto tensors = one(tensor);
    group->of(*tensor).allreduce(tensors)->wait();
    return 0;
  });
}

// Puts the first process's numbers into the tensor.
int ferry_group_share(Group* group, const at::Tensor* tensor) {
  return ferry::guarded(-1, [&] {
    auto tensors = one(tensor);
    group->of(*tensor).broadcast(tensors)->wait();
    return 0;
  });
}

}  // extern "C"
