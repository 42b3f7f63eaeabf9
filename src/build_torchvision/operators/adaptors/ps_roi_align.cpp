// ps_roi_align in place of upstream's ops/cpu/ps_roi_align_kernel.cpp.

#include "pooling.h"

namespace build_torchvision {
namespace {

struct PsRoiAlign {
  static constexpr const char *kForward = "ps_roi_align_forward_kernel", *kBackward = "ps_roi_align_backward_kernel";
  static constexpr const char* kPlaces = "channel_mapping";
  static constexpr bool kPositionSensitive = true;

  template <class... Arguments>
  static void forward(const Arguments&... arguments) {
    ps_roi_align(arguments...);
  }
  template <class... Arguments>
  static void backward(const Arguments&... arguments) {
    ps_roi_align_backward(arguments...);
  }
};

std::tuple<Tensor, Tensor> ps_roi_align_forward(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio) {
  return pool_regions<PsRoiAlign>(input, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio);
}

Tensor ps_roi_align_gradient(
    const Tensor& grad,
    const Tensor& rois,
    const Tensor& channel_mapping,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio,
    int64_t batch_size,
    int64_t channels,
    int64_t height,
    int64_t width) {
  const std::vector<int64_t> shape{batch_size, channels, height, width};
  return pooling_gradient<PsRoiAlign>(
      grad, rois, channel_mapping, spatial_scale, pooled_height, pooled_width, shape, sampling_ratio);
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("ps_roi_align"), OPERATOR_FUNCTION(ps_roi_align_forward));
  m.impl(OPERATOR_NAME("_ps_roi_align_backward"), OPERATOR_FUNCTION(ps_roi_align_gradient));
}

} // namespace build_torchvision
