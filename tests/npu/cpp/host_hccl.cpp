// Stands in for a bridge to a vendor's collectives: adds up tensors of the stand-in's devices, and takes no others. As on a
// chip, what waits for a process that is gone is never done. `HOST_HCCL_DIES=RANK:CALL` kills the process of that rank as it
// makes that call, counted from 1; `HOST_HCCL_MADE_FOR` is what it says that it was made for.

#include <bridge.h>

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using Tensors = std::vector<at::Tensor>;

// Fails as a device does: not at all.
class Task final : public c10d::Work {
 public:
  explicit Task(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}

  bool isCompleted() override { return work_->isCompleted() && work_->isSuccess(); }

  bool wait(std::chrono::milliseconds) override { return true; }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
};

class Collective final : public c10d::Backend {
 public:
  Collective(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int count)
      : c10d::Backend(rank, count), gloo_(std::move(gloo)) {}

  const std::string getBackendName() const override { return "host"; }

  c10::intrusive_ptr<c10d::Work> allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    auto near = asked(tensors);
    return c10::make_intrusive<Task>(gloo_->allreduce(near, options));
  }

  c10::intrusive_ptr<c10d::Work> broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    auto near = asked(tensors);
    return c10::make_intrusive<Task>(gloo_->broadcast(near, options));
  }

 private:
  // The same bytes as tensors of the processor's.
  Tensors asked(const Tensors& tensors) {
    int rank = 0, call = 0;
    const char* told = std::getenv("HOST_HCCL_DIES");
    ++calls_;
    if (told != nullptr && std::sscanf(told, "%d:%d", &rank, &call) == 2 && rank == getRank() && call == calls_) {
      std::raise(SIGKILL);
    }
    Tensors near;
    for (const auto& tensor : tensors) {
      TORCH_CHECK(tensor.is_privateuseone(), "this collective takes tensors of its devices alone");
      TORCH_CHECK(tensor.is_contiguous(), "this collective takes whole tensors alone");
      auto keep = [storage = tensor.storage()](void*) {};
      auto options = at::TensorOptions().dtype(tensor.scalar_type());
      near.push_back(at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), keep, options));
    }
    return near;
  }

  c10::intrusive_ptr<c10d::Backend> gloo_;
  int calls_ = 0;
};

}  // namespace

FERRY_EXPORT const char* ferry_made_for() {
  const char* told = std::getenv("HOST_HCCL_MADE_FOR");
  return told == nullptr ? TORCH_VERSION " " FERRY_VENDOR_SHA256 : told;
}

FERRY_EXPORT c10d::Backend* ferry_collective(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int count, std::chrono::milliseconds patience) {
  // As vendors' do, it goes by the device of the thread that makes it; the tests give each process its own.
  auto device = c10::impl::VirtualGuardImpl(c10::DeviceType::PrivateUse1).getDevice();
  TORCH_CHECK(device.index() == rank, "process ", rank, " makes its collective on ", device);
  auto options = c10d::ProcessGroupGloo::Options::create(patience);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, options);
  return c10::make_intrusive<Collective>(std::move(gloo), rank, count).release();
}
