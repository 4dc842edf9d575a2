// The bridge to hccl. `FERRY_VENDOR_SHA256` is that of the `libtorch_npu.so` whose headers are used.

#include <bridge.h>
#include <torch_npu/csrc/distributed/ProcessGroupHCCL.hpp>

#include <type_traits>

FERRY_EXPORT c10d::Backend* ferry_collective(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int count, std::chrono::milliseconds patience) {
  // Without a list of ranks it is the group of all processes.
  auto options = c10d_npu::ProcessGroupHCCL::Options::create();
  options->timeout = patience;
  options->opTimeout = patience;
  return c10::make_intrusive<c10d_npu::ProcessGroupHCCL>(store, rank, count, options).release();
}

FERRY_EXPORT const char* ferry_made_for() { return TORCH_VERSION " " FERRY_VENDOR_SHA256; }

static_assert(std::is_same_v<decltype(ferry_collective), ferry::Bridge>);
static_assert(std::is_same_v<decltype(ferry_made_for), ferry::MadeFor>);
