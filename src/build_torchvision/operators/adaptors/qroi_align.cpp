// roi_align of quantized maps in place of upstream's ops/quantized/cpu/qroi_align_kernel.cpp.
//
// Up to release 0.27 it is roi_align of quantized tensors; from 0.28 on it is an operator of its own, on plain integers
// with their scales and zero points. BUILD_TORCHVISION_QUANTIZED_TENSORS says which.

#include "tensor.h"

namespace build_torchvision {
namespace {

void check_quantized(const Tensor& input, const Tensor& rois) {
  CHECK(input.is_cpu(), "input must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  check_regions(rois);
  check_same_type("qroi_align_forward_kernel", input, "input", rois, "rois");
}

#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS
template <class T>
using StoredIn = typename T::underlying;
#else
template <class T>
using StoredIn = T;
#endif

template <class Quantized>
void pool(
    const Tensor& input,
    const Quantization& input_quantization,
    const Tensor& rois,
    const Quantization& rois_quantization,
    const Pooling& pooling,
    const Tensor& output) {
  using Stored = StoredIn<Quantized>;
  const Maps<const Stored> map{
      reinterpret_cast<const Stored*>(data_of<Quantized>(input)),
      input.size(0), input.size(1), input.size(2), input.size(3),
      input.stride(0), input.stride(1), input.stride(2), input.stride(3)};
  quantized_roi_align(
      torch_threads(),
      map,
      input_quantization,
      reinterpret_cast<const Stored*>(data_of<Quantized>(rois)),
      rois_quantization,
      pooling,
      reinterpret_cast<Stored*>(writable_data_of<Quantized>(output)));
}

#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS

Tensor quantized_roi_align_on_cpu(
    const Tensor& input,
    const Tensor& rois,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio,
    bool aligned) {
  check_quantized(input, rois);
  CHECK(
      input.size(0) == 1,
      "Only one image per batch is allowed in roi_align when quantized tensors are passed.");
  const Quantization of_input{input.q_scale(), input.q_zero_point()}, of_rois{rois.q_scale(), rois.q_zero_point()};
  Tensor output = at::_empty_affine_quantized(
      {rois.size(0), input.size(1), pooled_height, pooled_width}, input.options(), of_input.scale, of_input.zero_point);
  if (output.numel() == 0) {
    return output;
  }
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned};
  const Tensor regions = as_contiguous(rois);
  AT_DISPATCH_QINT_TYPES(input.scalar_type(), "qroi_align_forward_kernel", [&] {
    pool<scalar_t>(input, of_input, regions, of_rois, pooling, output);
  });
  return output;
}

#else

Tensor quantized_roi_align_on_cpu(
    const Tensor& input,
    const Tensor& rois,
    double input_scale,
    int64_t input_zero_point,
    double rois_scale,
    int64_t rois_zero_point,
    double spatial_scale,
    int64_t pooled_height,
    int64_t pooled_width,
    int64_t sampling_ratio,
    bool aligned) {
  check_quantized(input, rois);
  CHECK(input.size(0) == 1, "Only one image per batch is allowed in qroi_align.");
  Tensor output = empty_as(input, {rois.size(0), input.size(1), pooled_height, pooled_width});
  if (output.numel() == 0) {
    return output;
  }
  const Quantization of_input{input_scale, input_zero_point}, of_rois{rois_scale, rois_zero_point};
  const Pooling pooling{rois.size(0), spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned};
  const Tensor regions = as_contiguous(rois);
  DISPATCH_INTEGRAL(input.scalar_type(), "qroi_align_forward_kernel", [&] {
    pool<scalar_t>(input, of_input, regions, of_rois, pooling, output);
  });
  return output;
}

#endif

} // namespace

#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS
TORCH_LIBRARY_IMPL(torchvision, QuantizedCPU, m) {
  m.impl(OPERATOR_NAME("roi_align"), OPERATOR_FUNCTION(quantized_roi_align_on_cpu));
}
#else
DEFINE_OPERATORS(m) {
  m.def(OPERATOR_SCHEMA(
      "qroi_align(Tensor input, Tensor rois, float input_scale, int input_zero_point, float rois_scale, "
      "int rois_zero_point, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, "
      "bool aligned) -> Tensor"));
}

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("qroi_align"), OPERATOR_FUNCTION(quantized_roi_align_on_cpu));
}
#endif

} // namespace build_torchvision
