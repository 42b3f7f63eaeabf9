// box_iou_rotated in place of upstream's ops/cpu/box_iou_rotated_kernel.cpp.
//
// Release 0.26 does not bring overlaps into [0, 1]; BUILD_TORCHVISION_UNCLAMPED_OVERLAPS says so.

#include "tensor.h"

namespace build_torchvision {
namespace {

#ifdef BUILD_TORCHVISION_UNCLAMPED_OVERLAPS
constexpr bool kClamped = false;
#else
constexpr bool kClamped = true;
#endif

Tensor box_iou_rotated_on_cpu(const Tensor& boxes1, const Tensor& boxes2) {
  CHECK(boxes1.is_cpu(), "boxes1 must be a CPU tensor");
  CHECK(boxes2.is_cpu(), "boxes2 must be a CPU tensor");
  CHECK(boxes1.dim() == 2, "boxes1 should have shape (N, 5), got ", boxes1.dim(), " dimensions");
  CHECK(boxes2.dim() == 2, "boxes2 should have shape (M, 5), got ", boxes2.dim(), " dimensions");
  CHECK(boxes1.size(1) == 5, "boxes1 should have shape (N, 5), got (N, ", boxes1.size(1), ")");
  CHECK(boxes2.size(1) == 5, "boxes2 should have shape (M, 5), got (M, ", boxes2.size(1), ")");
  CHECK(boxes1.scalar_type() == boxes2.scalar_type(), "boxes1 and boxes2 must have the same dtype");
  Tensor overlaps = empty_as(boxes1, {boxes1.size(0), boxes2.size(0)}, ScalarType::Float);
  if (overlaps.numel() == 0) {
    return overlaps;
  }
  const Tensor rows1 = as_contiguous(boxes1), rows2 = as_contiguous(boxes2);
  DISPATCH_FLOATING(boxes1.scalar_type(), "box_iou_rotated_cpu", [&] {
    box_iou_rotated(
        torch_threads(),
        read<scalar_t>(rows1),
        rows1.size(0),
        read<scalar_t>(rows2),
        rows2.size(0),
        kClamped,
        write<float>(overlaps));
  });
  return overlaps;
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("box_iou_rotated"), OPERATOR_FUNCTION(box_iou_rotated_on_cpu));
}

} // namespace build_torchvision
