// nms of quantized boxes in place of upstream's ops/quantized/cpu/qnms_kernel.cpp.
//
// Up to release 0.27 it is nms of quantized tensors; from 0.28 on it is an operator of its own, on plain integers.
// BUILD_TORCHVISION_QUANTIZED_TENSORS says which.

#include "tensor.h"

namespace build_torchvision {
namespace {

#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS
constexpr bool kExactAreas = true;
template <class T>
using Stored = typename T::underlying;
#define DISPATCH_STORED AT_DISPATCH_QINT_TYPES
#else
constexpr bool kExactAreas = false;
template <class T>
using Stored = T;
#define DISPATCH_STORED DISPATCH_INTEGRAL
#endif

Tensor quantized_nms_on_cpu(const Tensor& dets, const Tensor& scores, double iou_threshold) {
  check_boxes(dets, scores);
  return kept_boxes(dets, [&](int64_t* keep) {
    int64_t kept = 0;
    DISPATCH_STORED(dets.scalar_type(), "qnms_kernel", [&] {
      kept = quantized_nms(
          torch_threads(),
          reinterpret_cast<const Stored<scalar_t>*>(data_of<scalar_t>(dets)),
          dets.stride(0),
          dets.stride(1),
          reinterpret_cast<const Stored<scalar_t>*>(data_of<scalar_t>(scores)),
          scores.stride(0),
          dets.size(0),
          iou_threshold,
          kExactAreas,
          keep);
    });
    return kept;
  });
}

} // namespace

#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS
TORCH_LIBRARY_IMPL(torchvision, QuantizedCPU, m) {
  m.impl(OPERATOR_NAME("nms"), OPERATOR_FUNCTION(quantized_nms_on_cpu));
}
#else
DEFINE_OPERATORS(m) {
  m.def(OPERATOR_SCHEMA("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"));
}

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("qnms"), OPERATOR_FUNCTION(quantized_nms_on_cpu));
}
#endif

} // namespace build_torchvision
