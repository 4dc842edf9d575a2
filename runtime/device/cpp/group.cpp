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
#include <cstdlib>
#include <exception>
#include <stdexcept>

namespace {

using c10::intrusive_ptr;

struct Group {
  intrusive_ptr<c10d::Store> store;
  intrusive_ptr<c10d::Backend> in_memory;
  // For tensors on devices; null where they are brought into the processor's memory.
  intrusive_ptr<c10d::Backend> on_devices;
  // What a device has not been seen to finish.
  intrusive_ptr<c10d::Work> under_way;

  // What is in the processor's memory is done as this returns: gloo notices by itself that a process is gone. A vendor's
  // backend takes tensors of its devices alone, and waits on the device, where nobody notices.
  template <typename Start>
  void start(const at::Tensor& tensor, Start act) {
    auto near = tensor.device().is_cpu() || !on_devices;
    auto work = act(near ? *in_memory : *on_devices);
    if (near) {
      work->wait();
    } else {
      under_way = std::move(work);
    }
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

// A function of a bridge, which stays loaded.
template <typename Function>
Function* exported(const char* bridge, const char* name) {
  void* library = dlopen(bridge, RTLD_NOW | RTLD_LOCAL);
  void* found = library == nullptr ? nullptr : dlsym(library, name);
  if (found == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<Function*>(found);
}

intrusive_ptr<c10d::Backend> bridged(
    const char* bridge,
    const intrusive_ptr<c10d::Store>& store,
    int rank,
    int count,
    std::chrono::milliseconds patience) {
  auto* make = exported<ferry::Bridge>(bridge, "ferry_collective");
  auto own = c10::make_intrusive<c10d::PrefixStore>("bridge", store);
  return intrusive_ptr<c10d::Backend>::reclaim(make(own, rank, count, patience));
}

std::vector<at::Tensor> one(const at::Tensor* tensor) { return {*tensor}; }

}  // namespace

extern "C" {

// What a bridge says that it was made for; null where it cannot be loaded, or is none.
const char* ferry_bridge_made_for(const char* bridge) {
  return ferry::guarded<const char*>(nullptr, [&] {
    exported<ferry::Bridge>(bridge, "ferry_collective");
    return exported<ferry::MadeFor>(bridge, "ferry_made_for")();
  });
}

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
    return new Group{std::move(store), std::move(near), std::move(there), {}};
  });
}

void ferry_group_leave(Group* group) {
  ferry::guarded(0, [&] {
    delete group;
    return 0;
  });
}

// Puts the sum over all processes into the tensor, or begins to: `ferry_group_is_done` tells.
int ferry_group_sum(Group* group, const at::Tensor* tensor) {
  return ferry::guarded(-1, [&] {
    auto tensors = one(tensor);
    group->start(*tensor, [&](c10d::Backend& backend) { return backend.allreduce(tensors); });
    return 0;
  });
}

// Puts the first process's numbers into the tensor, or begins to.
int ferry_group_share(Group* group, const at::Tensor* tensor) {
  return ferry::guarded(-1, [&] {
    auto tensors = one(tensor);
    group->start(*tensor, [&](c10d::Backend& backend) { return backend.broadcast(tensors); });
    return 0;
  });
}

// 1 where nothing is under way any more, 0 where a device is still at it.
int ferry_group_is_done(Group* group) {
  return ferry::guarded(-1, [&] {
    auto& work = group->under_way;
    if (!work) return 1;
    if (!work->isCompleted()) return 0;
    if (work->exception()) std::rethrow_exception(work->exception());
    // What the device is asked for from now on comes after it.
    work->wait();
    work.reset();
    return 1;
  });
}

// Ends the program without what libraries do at its end: they would wait for what a device never finishes.
void ferry_end(int status) { std::_Exit(status); }

}  // extern "C"
