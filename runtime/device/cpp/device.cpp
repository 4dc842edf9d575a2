// Devices by the number that libtorch gives their type: 0 the processor, 1 CUDA and HIP, 20 PrivateUse1.
//
// Only libtorch's general interfaces are used, so the same code serves every library that registers a device.

#include "fault.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>

namespace {

at::Device device_of(int type, int index) {
  return {static_cast<at::DeviceType>(type), static_cast<at::DeviceIndex>(index)};
}

c10::impl::VirtualGuardImpl guard_of(int type) {
  return c10::impl::VirtualGuardImpl(static_cast<at::DeviceType>(type));
}

template <typename Function>
Function* symbol(const char* name) {
  auto found = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  if (found == nullptr) throw std::runtime_error(std::string("no loaded library has ") + name);
  return found;
}

}  // namespace

namespace ferry {

std::string& last_fault() noexcept {
  static thread_local std::string fault;
  return fault;
}

}  // namespace ferry

extern "C" {

const char* ferry_fault() { return ferry::last_fault().c_str(); }

const char* ferry_torch_version() { return TORCH_VERSION; }

// Everything that a library refers to is looked up now, and what it defines serves the libraries that come after it.
int ferry_open(const char* path) {
  return ferry::guarded(-1, [&] {
    if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
    return 0;
  });
}

// Starts a loaded libpython, whose lock is then free, and lets it run `script`; nothing where it runs already.
int ferry_interpret(const char* script) {
  return ferry::guarded(-1, [&] {
    if (symbol<int()>("Py_IsInitialized")() != 0) return 0;
    auto* run = symbol<int(const char*)>("PyRun_SimpleString");
    auto* release = symbol<void*()>("PyEval_SaveThread");
    symbol<void(int)>("Py_InitializeEx")(0);
    int status = run(script);
    release();
    if (status != 0) throw std::runtime_error("the interpreter refused the script");
    return 0;
  });
}

// 1 where a library has registered devices of the type.
int ferry_is_registered(int type) {
  return ferry::guarded(0, [&] {
    return c10::impl::hasDeviceGuardImpl(static_cast<at::DeviceType>(type)) ? 1 : 0;
  });
}

// The name under which the library of PrivateUse1 registered; the text lives until the thread asks again.
const char* ferry_private_name() {
  static thread_local std::string name;
  return ferry::guarded<const char*>("", [&] {
    name = c10::get_privateuse1_backend(true);
    return name.c_str();
  });
}

int ferry_device_count(int type) {
  return ferry::guarded(-1, [&] { return static_cast<int>(guard_of(type).deviceCount()); });
}

int ferry_set_device(int type, int index) {
  return ferry::guarded(-1, [&] {
    guard_of(type).setDevice(device_of(type, index));
    return 0;
  });
}

int ferry_synchronize(int type, int index) {
  return ferry::guarded(-1, [&] {
    guard_of(type).synchronizeDevice(static_cast<at::DeviceIndex>(index));
    return 0;
  });
}

// Free and total bytes of a device, and the most that tensors held. 1 where its allocator does not tell.
int ferry_memory(int type, int index, int64_t* numbers) {
  return ferry::guarded(-1, [&] {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
    auto* allocator =
        dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(static_cast<at::DeviceType>(type)));
    if (allocator == nullptr) return 1;
    auto device = static_cast<at::DeviceIndex>(index);
    auto [free, total] = allocator->getMemoryInfo(device);
    numbers[0] = static_cast<int64_t>(free);
    numbers[1] = static_cast<int64_t>(total);
    numbers[2] = allocator->getDeviceStats(device).allocated_bytes[0].peak;
    return 0;
#else
    (void)type, (void)index, (void)numbers;
    return 1;
#endif
  });
}

// The type of a tensor's device; its index goes to `index`, minus one where it has none.
int ferry_place_of(const at::Tensor* tensor, int* index) {
  return ferry::guarded(-1, [&] {
    auto device = tensor->device();
    *index = device.has_index() ? device.index() : -1;
    return static_cast<int>(device.type());
  });
}

// A tensor with the same numbers on a device: the tensor itself where it is there already.
at::Tensor* ferry_put(const at::Tensor* tensor, int type, int index) {
  return ferry::guarded<at::Tensor*>(nullptr, [&] {
    return new at::Tensor(tensor->to(device_of(type, index), tensor->scalar_type()));
  });
}

// A tensor of unset numbers, of the number format of `like`.
at::Tensor* ferry_empty(const int64_t* sizes, int count, const at::Tensor* like, int type, int index) {
  return ferry::guarded<at::Tensor*>(nullptr, [&] {
    auto options = at::TensorOptions().dtype(like->scalar_type()).device(device_of(type, index));
    return new at::Tensor(at::empty(at::IntArrayRef(sizes, static_cast<size_t>(count)), options));
  });
}

}  // extern "C"
