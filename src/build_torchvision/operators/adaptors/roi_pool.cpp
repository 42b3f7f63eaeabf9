// roi_pool in place of upstream's ops/cpu/roi_pool_kernel.cpp.

#include "tensor.h"

namespace build_torchvision {
namespace {

std::tuple<Tensor, Tensor> roi_pool_forward(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width) {
  check_pooled("roi_pool_forward_kernel", input, rois);
  const std::vector<int64_t> shape{rois.size(0), input.size(1), pooled_height, pooled_width};
  Tensor output = empty_as(input, shape), argmax = empty_as(input, shape, ScalarType::Int);
  if (output.numel() == 0) {
    return {output, argmax};
  }
  const Tensor regions = as_contiguous(rois);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, 0, false};
  DISPATCH_FLOATING_AND_HALF(input.scalar_type(), "roi_pool_forward_kernel", [&] {
    check_images<scalar_t>(regions, input.size(0));
    roi_pool(
        torch_threads(),
        maps<scalar_t>(input),
        read<scalar_t>(regions),
        pooling,
        write<scalar_t>(output),
        write<int32_t>(argmax));
  });
  return {output, argmax};
}

Tensor roi_pool_gradient(
    const Tensor& grad,
    const Tensor& rois,
    const Tensor& argmax,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t batch_size,
    int64_t channels,
    int64_t height,
    int64_t width) {
  CHECK(grad.is_cpu(), "grad must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  CHECK(argmax.is_cpu(), "argmax must be a CPU tensor");
  check_regions(rois);
  check_same_type("roi_pool_backward_kernel", grad, "grad", rois, "rois");
  if (grad.numel() == 0) {
    return zeros_as(grad, {batch_size, channels, height, width});
  }
  Tensor grad_input = empty_as(grad, {batch_size, channels, height, width});
  const Tensor regions = as_contiguous(rois), places = as_contiguous(argmax);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, 0, false};
  DISPATCH_FLOATING_AND_HALF(grad.scalar_type(), "roi_pool_backward_kernel", [&] {
    check_images<scalar_t>(regions, batch_size);
    roi_pool_backward(
        torch_threads(),
        maps<scalar_t>(grad),
        read<scalar_t>(regions),
        write<int32_t>(places),
        pooling,
        writable_maps<scalar_t>(grad_input));
  });
  return grad_input;
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("roi_pool"), OPERATOR_FUNCTION(roi_pool_forward));
  m.impl(OPERATOR_NAME("_roi_pool_backward"), OPERATOR_FUNCTION(roi_pool_gradient));
}

} // namespace build_torchvision
