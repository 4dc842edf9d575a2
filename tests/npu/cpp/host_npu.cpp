// A device library for tests: devices of libtorch's type PrivateUse1, called "npu", over the processor's memory.
//
// The few operations that make or look at storage are written here. Every other one goes through libtorch's own
// fallback, which takes the tensors to the processor, computes there and takes the results back.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

namespace {

using at::Tensor;
using c10::DeviceIndex;

constexpr auto NPU = c10::DeviceType::PrivateUse1;
constexpr int MOST = 16;

uint64_t setting(const char* name, uint64_t usual) {
  const char* given = std::getenv(name);
  return given == nullptr ? usual : std::strtoull(given, nullptr, 10);
}

DeviceIndex device_count() {
  return static_cast<DeviceIndex>(std::min<uint64_t>(setting("HOST_NPU_DEVICES", 2), MOST));
}

thread_local DeviceIndex current = 0;

// ---- memory ----

struct Held {
  void* bytes;
  size_t size;
  DeviceIndex device;
};

// Before 2.13 no allocator tells how much memory a device has.
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
#define TELLS_MEMORY
using Allocator = c10::DeviceAllocator;
#else
using Allocator = c10::Allocator;
#endif

class Memory final : public Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    c10::Device device(NPU, current);
    if (size == 0) return {nullptr, nullptr, &release, device};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      auto& held = held_[static_cast<size_t>(current)];
      TORCH_CHECK_WITH(
          OutOfMemoryError, held + size <= capacity(), "NPU out of memory. Tried to allocate ", size, " bytes.");
      held += size;
      auto& peak = peak_[static_cast<size_t>(current)];
      peak = std::max(peak, held);
    }
    void* bytes = nullptr;
    TORCH_CHECK(posix_memalign(&bytes, 64, size) == 0, "the host has no memory left");
    return {bytes, new Held{bytes, size, current}, &release, device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }

#ifdef TELLS_MEMORY
  bool initialized() override { return true; }

  void emptyCache(c10::MempoolId_t) override {}

  void recordStream(const c10::DataPtr&, c10::Stream) override {}

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(DeviceIndex device) override {
    std::lock_guard<std::mutex> lock(mutex_);
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = static_cast<int64_t>(held_[static_cast<size_t>(device)]);
    stats.allocated_bytes[0].peak = static_cast<int64_t>(peak_[static_cast<size_t>(device)]);
    return stats;
  }

  void resetAccumulatedStats(DeviceIndex) override {}

  void resetPeakStats(DeviceIndex device) override {
    std::lock_guard<std::mutex> lock(mutex_);
    peak_[static_cast<size_t>(device)] = held_[static_cast<size_t>(device)];
  }

  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex device) override {
    std::lock_guard<std::mutex> lock(mutex_);
    return {capacity() - held_[static_cast<size_t>(device)], capacity()};
  }
#endif

 private:
  static size_t capacity() { return setting("HOST_NPU_BYTES", uint64_t{8} << 30); }

  static void release(void* context);

  std::mutex mutex_;
  std::array<size_t, MOST> held_{};
  std::array<size_t, MOST> peak_{};
};

Memory& memory() {
  // Never destroyed: tensors may outlive everything else.
  static auto* made = new Memory;
  return *made;
}

void Memory::release(void* context) {
  if (context == nullptr) return;
  auto* held = static_cast<Held*>(context);
  {
    std::lock_guard<std::mutex> lock(memory().mutex_);
    memory().held_[static_cast<size_t>(held->device)] -= held->size;
  }
  std::free(held->bytes);
  delete held;
}

// ---- devices ----

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return NPU; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {NPU, current}; }
  void setDevice(c10::Device device) const override {
    if (!device.has_index()) return;
    TORCH_CHECK(device.index() < device_count(), "invalid device ", device);
    current = device.index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  DeviceIndex deviceCount() const noexcept override { return device_count(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
  void destroyEvent(void*, DeviceIndex) const noexcept override {}
  // What was asked for is done when the call returns; an event is a place and nothing more.
  void record(void** event, const c10::Stream&, DeviceIndex, c10::EventFlag) const override {
    static int place;
    *event = &place;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return device_count(); }
  void setCurrentDevice(DeviceIndex device) const override { Guard().setDevice({NPU, device}); }
  DeviceIndex getCurrentDevice() const override { return current; }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    auto before = current;
    setCurrentDevice(device);
    return before;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override { return exchangeDevice(device); }
  // The processor's, so that the same seed draws the same numbers there and here.
  const at::Generator& getDefaultGenerator(DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    auto fresh = memory().allocate(size);
    auto kept = std::min(size, storage.nbytes());
    if (kept > 0) std::memcpy(fresh.get(), storage.data(), kept);
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

// ---- operations ----

// The device that a call names, for as long as the call lasts.
class On {
 public:
  explicit On(std::optional<at::Device> device) {
    if (device.has_value()) Guard().setDevice(*device);
  }
  ~On() { current = before_; }
  On(const On&) = delete;
  On& operator=(const On&) = delete;

 private:
  DeviceIndex before_ = current;
};

constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

Tensor empty(
    at::IntArrayRef size,
    std::optional<at::ScalarType> kind,
    std::optional<at::Layout>,
    std::optional<at::Device> device,
    std::optional<bool>,
    std::optional<at::MemoryFormat> format) {
  On on(device);
  return at::detail::empty_generic(size, &memory(), KEYS, c10::dtype_or_default(kind), format);
}

Tensor empty_strided(
    at::IntArrayRef size,
    at::IntArrayRef strides,
    std::optional<at::ScalarType> kind,
    std::optional<at::Layout>,
    std::optional<at::Device> device,
    std::optional<bool>) {
  On on(device);
  return at::detail::empty_strided_generic(size, strides, &memory(), KEYS, c10::dtype_or_default(kind));
}

// The same bytes as a tensor of the processor's.
Tensor seen(const Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  auto keep = [storage = tensor.storage()](void*) {};
  return at::from_blob(
      tensor.data_ptr(), tensor.sizes(), tensor.strides(), keep, at::TensorOptions().dtype(tensor.scalar_type()));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  if (to.numel() > 0) seen(to).copy_(seen(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar number(const Tensor& tensor) { return at::_local_scalar_dense(seen(tensor)); }

Tensor as_strided(
    const Tensor& tensor, at::IntArrayRef size, at::IntArrayRef strides, std::optional<int64_t> start) {
  return at::native::as_strided_tensorimpl(tensor, size, strides, start);
}

Tensor view(const Tensor& tensor, at::IntArrayRef size) { return at::native::view(tensor, size); }

Tensor reshape_alias(const Tensor& tensor, at::IntArrayRef size, at::IntArrayRef strides) {
  return at::native::_reshape_alias(tensor, size, strides);
}

const Tensor& resize(const Tensor& tensor, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, size, format);
}

Tensor& set_part(Tensor& tensor, at::Storage source, int64_t start, at::IntArrayRef size, at::IntArrayRef strides) {
  return at::cpu::set_(tensor, std::move(source), start, size, strides);
}

Tensor& set_storage(Tensor& tensor, at::Storage source) { return at::native::set_(tensor, std::move(source)); }

Tensor& set_tensor(Tensor& tensor, const Tensor& source) { return at::native::set_tensor_(tensor, source); }

// As on a chip: beside tensors of the device an operation takes none of the processor's but single numbers.
void refuse_mixed(const c10::OperatorHandle& operation, const torch::jit::Stack& stack) {
  auto refuse = [&](const Tensor& tensor) {
    TORCH_CHECK(
        !tensor.defined() || !tensor.is_cpu() || tensor.dim() == 0,
        operation.schema().name(),
        ": expected all tensors to be on the same device, but one is the processor's");
  };
  for (const auto& given : torch::jit::last(stack, operation.schema().arguments().size())) {
    if (given.isTensor()) refuse(given.toTensor());
    if (!given.isList()) continue;
    for (const c10::IValue& one : given.toListRef()) {
      if (one.isTensor()) refuse(one.toTensor());
    }
  }
}

void elsewhere(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  refuse_mixed(operation, *stack);
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &number);
  library.impl("as_strided", &as_strided);
  library.impl("view", &view);
  library.impl("_reshape_alias", &reshape_alias);
  library.impl("resize_", &resize);
  library.impl("set_.source_Storage", &set_storage);
  library.impl("set_.source_Storage_storage_offset", &set_part);
  library.impl("set_.source_Tensor", &set_tensor);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&elsewhere>());
}

const bool registered = [] {
  const char* name = std::getenv("HOST_NPU_NAME");
  c10::register_privateuse1_backend(name == nullptr ? "npu" : name);
  c10::SetAllocator(NPU, &memory());
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace
