#include <ATen/ATen.h>
#include <torch/library.h>

namespace vision::ops {
namespace {
// Two kernels define this name, each in an unnamed namespace: upstream's do, so CPU kernels are compiled one by one.
template <typename T>
int64_t positive(const T* values, int64_t count) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    found += values[i] > 0;
  }
  return found;
}

at::Tensor count_positive_kernel(const at::Tensor& values) {
  auto flat = values.contiguous().to(at::kFloat);
  return at::scalar_tensor(positive(flat.const_data_ptr<float>(), flat.numel()), at::kLong);
}
} // namespace

TORCH_LIBRARY_IMPL(torchvision, CPU, m) {
  m.impl("count_positive", &count_positive_kernel);
}
} // namespace vision::ops
