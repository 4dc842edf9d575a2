// What a bridge to a vendor's collectives exports: `libferry_nccl.so`, `libferry_hccl.so`.
//
// It is compiled against one release of libtorch and one file of the vendor's, whose classes it knows by their size. Both are
// written down in it, so that it is used beside no others.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/version.h>

#include <chrono>

#define FERRY_EXPORT extern "C" __attribute__((visibility("default")))

namespace ferry {

// `ferry_collective`: a backend that the caller owns, for tensors on this process's device. It may throw.
using Bridge = c10d::Backend*(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int count, std::chrono::milliseconds patience);

// `ferry_made_for`: the release of libtorch, then the SHA-256 of the vendor's library in lower case; a blank between them.
using MadeFor = const char*();

}  // namespace ferry
