#pragma once
#include <cstdint>

#define CUDA_1D_LOOP(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += blockDim.x * gridDim.x)

namespace vision::ops {
constexpr int THREADS = 256;

template <typename T>
__device__ inline bool positive(T value) {
  return value > 0;
}
} // namespace vision::ops
