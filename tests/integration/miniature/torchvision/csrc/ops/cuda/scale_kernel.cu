#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cuda_runtime.h>

#include "cuda_helpers.h"

namespace vision::ops {
namespace {
using torch::stable::Tensor;

__global__ void halve_values(int count, const float* values, float* out) {
  CUDA_1D_LOOP(i, count) {
    out[i] = values[i] * 0.5f;
  }
}

Tensor halve_cuda(const Tensor& values) {
  auto flat = torch::stable::contiguous(values);
  auto out = torch::stable::empty_like(flat);
  int const count = static_cast<int>(flat.numel());
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(values.get_device(), &stream));
  halve_values<<<min(count / THREADS + 1, 4096), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(
      count, flat.const_data_ptr<float>(), out.mutable_data_ptr<float>());
  return out;
}
} // namespace

STABLE_TORCH_LIBRARY_IMPL(torchvision, CUDA, m) {
  m.impl("halve", TORCH_BOX(&halve_cuda));
}
} // namespace vision::ops
