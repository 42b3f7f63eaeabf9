// nms in place of upstream's ops/cpu/nms_kernel.cpp.

#include "tensor.h"

namespace build_torchvision {
namespace {

Tensor nms_on_cpu(const Tensor& dets, const Tensor& scores, double iou_threshold) {
  check_boxes(dets, scores);
  return kept_boxes(dets, [&](int64_t* keep) {
    int64_t kept = 0;
    DISPATCH_FLOATING(dets.scalar_type(), "nms_kernel", [&] {
      kept = nms(
          torch_threads(),
          read<scalar_t>(dets),
          dets.stride(0),
          dets.stride(1),
          read<scalar_t>(scores),
          scores.stride(0),
          dets.size(0),
          iou_threshold,
          keep);
    });
    return kept;
  });
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("nms"), OPERATOR_FUNCTION(nms_on_cpu));
}

} // namespace build_torchvision
