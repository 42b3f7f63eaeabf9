// Registers cuda/nms.cuh as torchvision::nms for CUDA with torch's dispatcher (TorchVision up to 0.28).
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "../cuda/nms.cuh"

namespace vision {
namespace ops {

namespace {

at::Tensor nms(const at::Tensor& dets, const at::Tensor& scores, double iou_threshold) {
  TORCH_CHECK(dets.is_cuda(), "dets must be a CUDA tensor");
  TORCH_CHECK(scores.is_cuda(), "scores must be a CUDA tensor");
  TORCH_CHECK(dets.dim() == 2, "boxes should be a 2d tensor, got ", dets.dim(), "D");
  TORCH_CHECK(dets.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", dets.size(1));
  TORCH_CHECK(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  TORCH_CHECK(
      dets.size(0) == scores.size(0),
      "boxes and scores should have same number of elements in dimension 0, got ",
      dets.size(0),
      " and ",
      scores.size(0));
  at::cuda::CUDAGuard guard(dets.device());
  if (dets.numel() == 0) {
    return at::empty({0}, dets.options().dtype(at::kLong));
  }
  const at::Tensor order = std::get<1>(scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
  const at::Tensor sorted = dets.index_select(0, order).contiguous();
  const int64_t boxes = dets.size(0);
  const at::Tensor removed = at::zeros({boxes}, dets.options().dtype(at::kBool));
  const at::Tensor keep = at::empty({boxes}, dets.options().dtype(at::kBool));
  const cudaStream_t stream = at::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(sorted.scalar_type(), "nms_kernel", [&] {
    const int64_t bytes = build_torchvision::nms::scratch_bytes<scalar_t>(boxes);
    const at::Tensor scratch = at::empty({bytes}, dets.options().dtype(at::kByte));
    build_torchvision::nms::run<scalar_t>(
        (int)boxes,
        (float)iou_threshold,
        sorted.data_ptr<scalar_t>(),
        scratch.data_ptr(),
        removed.data_ptr<bool>(),
        keep.data_ptr<bool>(),
        stream);
  });
  const cudaError_t error = cudaGetLastError();
  TORCH_CHECK(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error));
  return order.masked_select(keep);
}

} // namespace

TORCH_LIBRARY_IMPL(torchvision, CUDA, m) {
  m.impl(TORCH_SELECTIVE_NAME("torchvision::nms"), TORCH_FN(nms));
}

} // namespace ops
} // namespace vision
