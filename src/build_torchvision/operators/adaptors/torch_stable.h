// The adaptors' view of torch through its stable ABI, with that ABI's headers alone. Included by tensor.h.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>

#include <array>

#define CHECK STD_TORCH_CHECK
#define DISPATCH_FLOATING(TYPE, NAME, ...) THO_DISPATCH_V2(TYPE, NAME, AT_WRAP(__VA_ARGS__), AT_EXPAND(AT_FLOATING_TYPES))
#define DISPATCH_FLOATING_AND_HALF(TYPE, NAME, ...) \
  THO_DISPATCH_V2(                                  \
      TYPE, NAME, AT_WRAP(__VA_ARGS__), AT_EXPAND(AT_FLOATING_TYPES), torch::headeronly::ScalarType::Half)
#define DISPATCH_INTEGRAL(TYPE, NAME, ...) THO_DISPATCH_V2(TYPE, NAME, AT_WRAP(__VA_ARGS__), AT_EXPAND(AT_INTEGRAL_TYPES))
#define IMPLEMENT_ON_CPU(library) STABLE_TORCH_LIBRARY_IMPL(torchvision, CPU, library)
#define DEFINE_OPERATORS(library) STABLE_TORCH_LIBRARY_FRAGMENT(torchvision, library)
#define OPERATOR_NAME(name) name
#define OPERATOR_SCHEMA(schema) schema
#define OPERATOR_FUNCTION(function) TORCH_BOX(&function)

namespace build_torchvision {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using TorchHalf = torch::headeronly::Half;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

// Types as torch's C functions number them: they are compared so, for scalar_type() and the checks of data pointers ask
// for the number of one type after the other.
inline int32_t type_of(const Tensor& tensor) {
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &type));
  return type;
}
inline int32_t number_of(ScalarType type) {
  return torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
}
inline bool have_same_type(const Tensor& first, const Tensor& second) {
  return type_of(first) == type_of(second);
}

// A new CPU tensor of `dtype`, without a call of the dispatcher, which finds an operator by its name and boxes what it
// takes: about 0.8 us a tensor. `refused` makes it, or says what is wrong with it, where this cannot.
template <class Refused>
Tensor empty_on_cpu(Sizes sizes, int32_t dtype, const Refused& refused) {
  constexpr size_t kMost = 4;
  int64_t strides[kMost], stride = 1;
  bool fits = sizes.size() <= kMost;
  for (size_t i = sizes.size(); fits && i-- > 0;) {
    strides[i] = stride;
    fits = sizes[i] >= 0 && !__builtin_mul_overflow(stride, std::max<int64_t>(sizes[i], 1), &stride);
  }
  AtenTensorHandle handle;
  const int64_t dims = static_cast<int64_t>(sizes.size());
  const int32_t cpu = aoti_torch_device_type_cpu();
  if (!fits || aoti_torch_empty_strided(dims, sizes.data(), strides, dtype, cpu, 0, &handle) != TORCH_SUCCESS) {
    return refused();
  }
  return Tensor(handle);
}
inline Tensor empty_as(const Tensor& like, Sizes sizes) {
  return empty_on_cpu(sizes, type_of(like), [&] { return torch::stable::new_empty(like, sizes); });
}
inline Tensor empty_as(const Tensor& like, Sizes sizes, ScalarType type) {
  return empty_on_cpu(sizes, number_of(type), [&] { return torch::stable::new_empty(like, sizes, type); });
}
inline Tensor zeros_as(const Tensor& like, Sizes sizes) {
  return torch::stable::new_zeros(like, sizes);
}
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}
inline Tensor empty_numbers(const Tensor& like, int64_t count) {
  return empty_as(like, {count}, ScalarType::Long);
}

inline Tensor shaped(const Tensor& tensor, Sizes sizes) {
  return torch::stable::view(tensor, sizes);
}
inline Tensor reshaped(const Tensor& tensor, Sizes sizes) {
  return torch::stable::reshape(tensor, sizes);
}
inline Tensor permuted(const Tensor& tensor, Sizes dims) {
  return torch::stable::permute(tensor, dims);
}
inline Tensor part(const Tensor& tensor, int64_t index) {
  return torch::stable::select(tensor, 0, index);
}
inline Tensor rows_of(const Tensor& tensor) {
  return torch::stable::flatten(tensor, 1);
}
inline Tensor turned(const Tensor& matrix) {
  return torch::stable::transpose(matrix, 0, 1);
}
// A sum: the stable ABI has the difference alone.
inline Tensor plus(const Tensor& a, const Tensor& b) {
  return torch::stable::subtract(a, b, -1.0);
}
// Products as upstream asks for them with this interface.
inline void set_product(Tensor result, const Tensor& a, const Tensor& b) {
  std::array<StableIValue, 3> stack{
      torch::stable::detail::from(a), torch::stable::detail::from(b), torch::stable::detail::from(result)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);
}
inline void add_product(Tensor result, const Tensor& a, const Tensor& b) {
  torch::stable::copy_(result, plus(result, torch::stable::matmul(a, b)));
}
inline Tensor gradient_of_bias(const Tensor& bias, const Tensor& grad) {
  const std::array<int64_t, 3> dims{0, 2, 3};
  return plus(zeros_as(bias, bias.sizes()), torch::stable::sum(grad, Sizes(dims.data(), dims.size())));
}

template <class T>
bool holds(const Tensor& tensor) {
  return type_of(tensor) == number_of(torch::headeronly::CppTypeToScalarType<T>::value);
}
// Of another type than T: torch's own error names both.
template <class T>
const T* data_of(const Tensor& tensor) {
  return holds<T>(tensor) ? static_cast<const T*>(tensor.const_data_ptr()) : tensor.const_data_ptr<T>();
}
template <class T>
T* writable_data_of(const Tensor& tensor) {
  return holds<T>(tensor) ? static_cast<T*>(tensor.mutable_data_ptr()) : tensor.mutable_data_ptr<T>();
}

inline void check_same_type(
    const char*,
    const Tensor& first,
    const char* first_name,
    const Tensor& second,
    const char* second_name) {
  CHECK(have_same_type(first, second), first_name, " should have the same type as ", second_name);
}

inline void run_in_threads(
    int64_t count,
    int64_t grain,
    void (*body)(int64_t begin, int64_t end, void* context),
    void* context) {
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(0, count, grain, body, context));
}

inline Threads torch_threads() {
  return {static_cast<int64_t>(torch::stable::get_num_threads()), run_in_threads};
}

} // namespace
} // namespace build_torchvision
