// ps_roi_pool in place of upstream's ops/cpu/ps_roi_pool_kernel.cpp.

#include "tensor.h"

namespace build_torchvision {
namespace {

std::tuple<Tensor, Tensor> ps_roi_pool_forward(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width) {
  check_pooled("ps_roi_pool_forward_kernel", input, rois);
  const std::vector<int64_t> shape = position_sensitive_shape(input, rois, pooled_height, pooled_width);
  Tensor output = empty_as(input, shape), mapping = empty_as(input, shape, ScalarType::Int);
  if (output.numel() == 0) {
    return {output, mapping};
  }
  const Tensor planes = as_contiguous(input), regions = as_contiguous(rois);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, 0, true};
  DISPATCH_FLOATING_AND_HALF(input.scalar_type(), "ps_roi_pool_forward_kernel", [&] {
    check_images<scalar_t>(regions, input.size(0));
    ps_roi_pool(
        torch_threads(),
        maps<scalar_t>(planes),
        read<scalar_t>(regions),
        pooling,
        write<scalar_t>(output),
        write<int32_t>(mapping));
  });
  return {output, mapping};
}

Tensor ps_roi_pool_gradient(
    const Tensor& grad,
    const Tensor& rois,
    const Tensor& channel_mapping,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t batch_size,
    int64_t channels,
    int64_t height,
    int64_t width) {
  CHECK(grad.is_cpu(), "grad must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  CHECK(channel_mapping.is_cpu(), "channel_mapping must be a CPU tensor");
  check_same_type("ps_roi_pool_backward_kernel", grad, "grad", rois, "rois");
  Tensor grad_input = zeros_as(grad, {batch_size, channels, height, width});
  if (grad.numel() == 0) {
    return grad_input;
  }
  const Tensor gradients = as_contiguous(grad), regions = as_contiguous(rois), mapping = as_contiguous(channel_mapping);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, 0, true};
  DISPATCH_FLOATING_AND_HALF(grad.scalar_type(), "ps_roi_pool_backward_kernel", [&] {
    check_images<scalar_t>(regions, batch_size);
    ps_roi_pool_backward(
        torch_threads(),
        read<scalar_t>(gradients),
        read<scalar_t>(regions),
        write<int32_t>(mapping),
        pooling,
        writable_maps<scalar_t>(grad_input));
  });
  return grad_input;
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("ps_roi_pool"), OPERATOR_FUNCTION(ps_roi_pool_forward));
  m.impl(OPERATOR_NAME("_ps_roi_pool_backward"), OPERATOR_FUNCTION(ps_roi_pool_gradient));
}

} // namespace build_torchvision
