#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "cuda_helpers.h"

namespace vision::ops {
namespace {
// Not called a kernel, as upstream's gather_keep_from_mask is not.
template <typename T>
__global__ void gather_positive(int count, const T* values, int64_t* found) {
  CUDA_1D_LOOP(i, count) {
    if (positive(values[i])) {
      atomicAdd(reinterpret_cast<unsigned long long*>(found), 1ull);
    }
  }
}

at::Tensor count_positive_cuda(const at::Tensor& values) {
  at::cuda::CUDAGuard guard(values.device());
  auto flat = values.contiguous().to(at::kFloat);
  auto found = at::zeros({}, flat.options().dtype(at::kLong));
  int const count = flat.numel();
  // min of two ints in host code: nvcc's headers declare it there, clang's for device code alone.
  int const blocks = min(count / THREADS + 1, 4096);
  gather_positive<float><<<blocks, max(THREADS, 32), 0, at::cuda::getCurrentCUDAStream()>>>(
      count, flat.const_data_ptr<float>(), found.mutable_data_ptr<int64_t>());
  return found;
}
} // namespace

TORCH_LIBRARY_IMPL(torchvision, CUDA, m) {
  m.impl("count_positive", &count_positive_cuda);
}
} // namespace vision::ops
