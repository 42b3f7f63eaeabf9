// nms in place of upstream's ops/cpu/nms_kernel.cpp.

#include "tensor.h"

namespace build_torchvision {
namespace {

Tensor nms_on_cpu(const Tensor& dets, const Tensor& scores, double iou_threshold) {
  CHECK(dets.dim() == 2, "boxes should be a 2d tensor, got ", dets.dim(), "D");
  CHECK(dets.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", dets.size(1));
  CHECK(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  CHECK(
      dets.size(0) == scores.size(0),
      "boxes and scores should have same number of elements in dimension 0, got ",
      dets.size(0),
      " and ",
      scores.size(0));
  CHECK(dets.is_cpu(), "dets must be a CPU tensor");
  CHECK(scores.is_cpu(), "scores must be a CPU tensor");
  CHECK(dets.scalar_type() == scores.scalar_type(), "dets should have the same type as scores");
  Tensor keep = empty_as(dets, {dets.size(0)}, ScalarType::Long);
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
        write<int64_t>(keep));
  });
  return first_of(keep, kept);
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("nms"), OPERATOR_FUNCTION(nms_on_cpu));
}

} // namespace build_torchvision
