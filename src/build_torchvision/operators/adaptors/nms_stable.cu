// Registers cuda/nms.cuh as torchvision::nms for CUDA through torch's stable ABI (TorchVision from 0.29 on).
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include "../cuda/nms.cuh"
#include "ops/StableABICompat.h"

namespace vision {
namespace ops {

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor nms(const Tensor& dets, const Tensor& scores, double iou_threshold) {
  STD_TORCH_CHECK(dets.is_cuda(), "dets must be a CUDA tensor");
  STD_TORCH_CHECK(scores.is_cuda(), "scores must be a CUDA tensor");
  STD_TORCH_CHECK(dets.dim() == 2, "boxes should be a 2d tensor, got ", dets.dim(), "D");
  STD_TORCH_CHECK(dets.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", dets.size(1));
  STD_TORCH_CHECK(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  STD_TORCH_CHECK(
      dets.size(0) == scores.size(0),
      "boxes and scores should have same number of elements in dimension 0, got ",
      dets.size(0),
      " and ",
      scores.size(0));
  torch::stable::accelerator::DeviceGuard guard(dets.get_device_index());
  if (dets.numel() == 0) {
    return torch::stable::new_empty(dets, {0}, ScalarType::Long);
  }
  const Tensor order =
      std::get<1>(stable_helpers::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  const Tensor sorted = torch::stable::contiguous(stable_helpers::index_select(dets, 0, order));
  const int64_t boxes = dets.size(0);
  const Tensor removed = torch::stable::new_zeros(dets, {boxes}, ScalarType::Bool);
  const Tensor keep = torch::stable::new_empty(dets, {boxes}, ScalarType::Bool);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(dets.get_device_index(), &stream));
  THO_DISPATCH_V2(
      sorted.scalar_type(),
      "nms_kernel",
      AT_WRAP([&]() {
        const int64_t bytes = build_torchvision::nms::scratch_bytes<scalar_t>(boxes);
        const Tensor scratch = torch::stable::new_empty(dets, {bytes}, ScalarType::Byte);
        build_torchvision::nms::run<scalar_t>(
            (int)boxes,
            (float)iou_threshold,
            sorted.const_data_ptr<scalar_t>(),
            scratch.mutable_data_ptr(),
            removed.mutable_data_ptr<bool>(),
            keep.mutable_data_ptr<bool>(),
            static_cast<cudaStream_t>(stream));
      }),
      AT_EXPAND(AT_FLOATING_TYPES),
      ScalarType::Half);
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error));
  return stable_helpers::masked_select(order, keep);
}

} // namespace

STABLE_TORCH_LIBRARY_IMPL(torchvision, CUDA, m) {
  m.impl("nms", TORCH_BOX(&nms));
}

} // namespace ops
} // namespace vision
