// What a bridge to a vendor's collectives exports: `libferry_nccl.so`, `libferry_hccl.so`.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

namespace ferry {

// `ferry_collective`: a backend that the caller owns, for tensors on this process's device. It may throw.
using Bridge = c10d::Backend*(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int count, std::chrono::milliseconds patience);

}  // namespace ferry
