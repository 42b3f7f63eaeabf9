// The adaptor of operators that pool regions and say where each value is from: roi_pool, ps_roi_pool and ps_roi_align.
//
// `Operator` is what differs between them: the names that errors give, the shape of the output, whether the input has to
// be contiguous, and the kernels of both directions.
#pragma once

#include "tensor.h"

namespace build_torchvision {
namespace {

template <class Operator>
std::tuple<Tensor, Tensor> pool_regions(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio = 0) {
  check_pooled(Operator::kForward, input, rois);
  const std::vector<int64_t> shape = Operator::kPositionSensitive
      ? position_sensitive_shape(input, rois, pooled_height, pooled_width)
      : std::vector<int64_t>{rois.size(0), input.size(1), pooled_height, pooled_width};
  Tensor output = empty_as(input, shape), places = empty_as(input, shape, ScalarType::Int);
  if (output.numel() == 0) {
    return {output, places};
  }
  const Tensor planes = Operator::kPositionSensitive ? as_contiguous(input) : input, regions = as_contiguous(rois);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, true};
  DISPATCH_FLOATING_AND_HALF(input.scalar_type(), Operator::kForward, [&] {
    check_images<scalar_t>(regions, input.size(0));
    Operator::forward(
        torch_threads(),
        maps<scalar_t>(planes),
        read<scalar_t>(regions),
        pooling,
        write<scalar_t>(output),
        write<int32_t>(places));
  });
  return {output, places};
}

// `shape` is the input's.
template <class Operator>
Tensor pooling_gradient(
    const Tensor& grad,
    const Tensor& rois,
    const Tensor& places,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    const std::vector<int64_t>& shape,
    int64_t sampling_ratio = 0) {
  CHECK(grad.is_cpu(), "grad must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  CHECK(places.is_cpu(), Operator::kPlaces, " must be a CPU tensor");
  check_regions(rois);
  check_same_type(Operator::kBackward, grad, "grad", rois, "rois");
  if (grad.numel() == 0) {
    return zeros_as(grad, shape);
  }
  Tensor grad_input = empty_as(grad, shape);
  const Tensor gradients = Operator::kPositionSensitive ? as_contiguous(grad) : grad, regions = as_contiguous(rois);
  const Tensor from = as_contiguous(places);
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, true};
  DISPATCH_FLOATING_AND_HALF(grad.scalar_type(), Operator::kBackward, [&] {
    check_images<scalar_t>(regions, shape[0]);
    Operator::backward(
        torch_threads(),
        maps<scalar_t>(gradients),
        read<scalar_t>(regions),
        read<int32_t>(from),
        pooling,
        writable_maps<scalar_t>(grad_input));
  });
  return grad_input;
}

} // namespace
} // namespace build_torchvision
