// roi_pool in place of upstream's ops/cpu/roi_pool_kernel.cpp.

#include "pooling.h"

namespace build_torchvision {
namespace {

struct RoiPool {
  static constexpr const char *kForward = "roi_pool_forward_kernel", *kBackward = "roi_pool_backward_kernel";
  static constexpr const char* kPlaces = "argmax";
  static constexpr bool kPositionSensitive = false;

  template <class... Arguments>
  static void forward(const Arguments&... arguments) {
    roi_pool(arguments...);
  }
  template <class... Arguments>
  static void backward(const Arguments&... arguments) {
    roi_pool_backward(arguments...);
  }
};

std::tuple<Tensor, Tensor> roi_pool_forward(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width) {
  return pool_regions<RoiPool>(input, rois, spatial_scale, pooled_height, pooled_width);
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
  const std::vector<int64_t> shape{batch_size, channels, height, width};
  return pooling_gradient<RoiPool>(
      grad, rois, argmax, spatial_scale, pooled_height, pooled_width, shape);
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("roi_pool"), OPERATOR_FUNCTION(roi_pool_forward));
  m.impl(OPERATOR_NAME("_roi_pool_backward"), OPERATOR_FUNCTION(roi_pool_gradient));
}

} // namespace build_torchvision
