// roi_align in place of upstream's ops/cpu/roi_align_kernel.cpp.

#include "tensor.h"

namespace build_torchvision {
namespace {

Tensor roi_align_forward(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio,
    bool aligned) {
  check_pooled("roi_align_forward_kernel", input, rois);
  Tensor output = empty_as(input, {rois.size(0), input.size(1), pooled_height, pooled_width});
  if (output.numel() == 0) {
    return output;
  }
  const Tensor regions = as_contiguous(rois);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned};
  DISPATCH_FLOATING_AND_HALF(input.scalar_type(), "roi_align_forward_kernel", [&] {
    check_images<scalar_t>(regions, input.size(0));
    roi_align(torch_threads(), maps<scalar_t>(input), read<scalar_t>(regions), pooling, write<scalar_t>(output));
  });
  return output;
}

Tensor roi_align_gradient(
    const Tensor& grad,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t batch_size,
    int64_t channels,
    int64_t height,
    int64_t width,
    int64_t sampling_ratio,
    bool aligned) {
  CHECK(grad.is_cpu(), "grad must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  check_same_type("roi_align_backward_kernel", grad, "grad", rois, "rois");
  if (grad.numel() == 0) {
    return zeros_as(grad, {batch_size, channels, height, width});
  }
  Tensor grad_input = empty_as(grad, {batch_size, channels, height, width});
  const Tensor regions = as_contiguous(rois);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned};
  DISPATCH_FLOATING_AND_HALF(grad.scalar_type(), "roi_align_backward_kernel", [&] {
    check_images<scalar_t>(regions, batch_size);
    roi_align_backward(
        torch_threads(), maps<scalar_t>(grad), read<scalar_t>(regions), pooling, writable_maps<scalar_t>(grad_input));
  });
  return grad_input;
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("roi_align"), OPERATOR_FUNCTION(roi_align_forward));
  m.impl(OPERATOR_NAME("_roi_align_backward"), OPERATOR_FUNCTION(roi_align_gradient));
}

} // namespace build_torchvision
