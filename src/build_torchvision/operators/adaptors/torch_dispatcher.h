// The adaptors' view of torch where operators are registered with its dispatcher. Included by tensor.h.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <atomic>

// torch's loop over threads has C linkage from 2.10 on; before, at::parallel_for is a template that needs OpenMP where
// it is compiled. OpenMP's entry point is then the one that libtorch_cpu.so itself is linked to. Both are weak: what is
// missing is null, and with neither a loop runs in one thread.
extern "C" {
int32_t torch_parallel_for(
    int64_t begin,
    int64_t end,
    int64_t grain,
    void (*body)(int64_t begin, int64_t end, void* context),
    void* context) __attribute__((weak));
void GOMP_parallel(void (*body)(void*), void* context, unsigned threads, unsigned flags) __attribute__((weak));
int omp_get_thread_num() __attribute__((weak));
int omp_get_num_threads() __attribute__((weak));
}

#define CHECK TORCH_CHECK
#define DISPATCH_FLOATING AT_DISPATCH_FLOATING_TYPES
#define DISPATCH_FLOATING_AND_HALF AT_DISPATCH_FLOATING_TYPES_AND_HALF
#define DISPATCH_INTEGRAL AT_DISPATCH_INTEGRAL_TYPES
#define IMPLEMENT_ON_CPU(library) TORCH_LIBRARY_IMPL(torchvision, CPU, library)
#define DEFINE_OPERATORS(library) TORCH_LIBRARY_FRAGMENT(torchvision, library)
#define OPERATOR_NAME(name) TORCH_SELECTIVE_NAME("torchvision::" name)
#define OPERATOR_SCHEMA(schema) TORCH_SELECTIVE_SCHEMA("torchvision::" schema)
#define OPERATOR_FUNCTION(function) TORCH_FN(function)

namespace build_torchvision {
namespace {

using at::ScalarType;
using at::Tensor;
using TorchHalf = at::Half;

inline bool have_same_type(const Tensor& first, const Tensor& second) {
  return first.scalar_type() == second.scalar_type();
}

inline Tensor empty_as(const Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options());
}
inline Tensor empty_as(const Tensor& like, at::IntArrayRef sizes, ScalarType type) {
  return at::empty(sizes, like.options().dtype(type));
}
inline Tensor zeros_as(const Tensor& like, at::IntArrayRef sizes) {
  return at::zeros(sizes, like.options());
}
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.contiguous();
}
// Not like another tensor: a quantized one's options say that it is quantized, which numbers of boxes are not.
inline Tensor empty_numbers(const Tensor&, int64_t count) {
  return at::empty({count}, at::TensorOptions().dtype(at::kLong));
}

inline Tensor shaped(const Tensor& tensor, at::IntArrayRef sizes) {
  return tensor.view(sizes);
}
inline Tensor reshaped(const Tensor& tensor, at::IntArrayRef sizes) {
  return tensor.reshape(sizes);
}
inline Tensor permuted(const Tensor& tensor, at::IntArrayRef dims) {
  return tensor.permute(dims);
}
inline Tensor part(const Tensor& tensor, int64_t index) {
  return tensor.select(0, index);
}
inline Tensor rows_of(const Tensor& tensor) {
  return tensor.flatten(1);
}
inline Tensor turned(const Tensor& matrix) {
  return matrix.t();
}
// Products as upstream asks for them with this interface: added to zeros, which rounds otherwise than a plain product.
inline void set_product(Tensor result, const Tensor& a, const Tensor& b) {
  result.zero_();
  result.addmm_(a, b);
}
inline void add_product(Tensor result, const Tensor& a, const Tensor& b) {
  result.addmm_(a, b);
}
inline Tensor plus(const Tensor& a, const Tensor& b) {
  return a + b;
}
inline Tensor gradient_of_bias(const Tensor& bias, const Tensor& grad) {
  return at::ones_like(bias) * grad.sum({0, 2, 3});
}

template <class T>
const T* data_of(const Tensor& tensor) {
  return tensor.data_ptr<T>();
}
template <class T>
T* writable_data_of(const Tensor& tensor) {
  return tensor.data_ptr<T>();
}

inline void check_same_type(
    const char* function,
    const Tensor& first,
    const char* first_name,
    const Tensor& second,
    const char* second_name) {
  at::checkAllSameType(function, {{first, first_name, 1}, {second, second_name, 2}});
}

struct Loop {
  void (*body)(int64_t begin, int64_t end, void* context);
  void* context;
  int64_t count;
  // Not an exception_ptr: copying one asks for CXXABI_1.3.13, which manylinux_2_28 lacks.
  std::atomic<bool> failed{false};
};

inline void run_share(void* pointer) {
  Loop& loop = *static_cast<Loop*>(pointer);
  const int64_t threads = omp_get_num_threads(), share = (loop.count + threads - 1) / threads;
  const int64_t begin = omp_get_thread_num() * share, end = std::min(begin + share, loop.count);
  if (begin < end) {
    try {
      loop.body(begin, end, loop.context);
    } catch (...) {
      loop.failed = true;
    }
  }
}

inline void run_in_threads(
    int64_t count,
    int64_t grain,
    void (*body)(int64_t begin, int64_t end, void* context),
    void* context) {
  if (torch_parallel_for) {
    TORCH_CHECK(torch_parallel_for(0, count, grain, body, context) == 0, "a loop over threads failed");
    return;
  }
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), (count + grain - 1) / grain);
  if (threads <= 1 || at::in_parallel_region() || !GOMP_parallel || !omp_get_num_threads || !omp_get_thread_num) {
    body(0, count, context);
    return;
  }
  Loop loop{body, context, count};
  GOMP_parallel(run_share, &loop, static_cast<unsigned>(threads), 0);
  TORCH_CHECK(!loop.failed, "a loop over threads failed");
}

inline Threads torch_threads() {
  return {at::in_parallel_region() ? 1 : at::get_num_threads(), run_in_threads};
}

} // namespace
} // namespace build_torchvision
