#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

namespace vision::ops {
namespace {
using torch::stable::Tensor;

void positive(const float* values, float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = values[i] * 0.5f;
  }
}

Tensor halve_kernel(const Tensor& values) {
  STD_TORCH_CHECK(values.scalar_type() == torch::headeronly::ScalarType::Float, "halve takes float32");
  auto flat = torch::stable::contiguous(values);
  auto out = torch::stable::empty_like(flat);
  positive(flat.const_data_ptr<float>(), out.mutable_data_ptr<float>(), flat.numel());
  return out;
}
} // namespace

STABLE_TORCH_LIBRARY_IMPL(torchvision, CPU, m) {
  m.impl("halve", TORCH_BOX(&halve_kernel));
}
} // namespace vision::ops
