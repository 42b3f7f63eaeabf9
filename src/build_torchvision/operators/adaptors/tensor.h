// Tensors as the kernels take them. An adaptor is written once for both of torch's interfaces: upstream's build defines
// TORCH_TARGET_VERSION for the extension that keeps to the stable ABI.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "../kernels/kernels.h"

#ifdef TORCH_TARGET_VERSION
#include "torch_stable.h"
#else
#include "torch_dispatcher.h"
#endif

namespace build_torchvision {
namespace {

template <class T>
struct ElementOf {
  using type = T;
};
template <>
struct ElementOf<TorchHalf> {
  using type = Half;
};
template <class T>
using Element = typename ElementOf<T>::type;

template <class T>
const Element<T>* read(const Tensor& tensor) {
  return reinterpret_cast<const Element<T>*>(data_of<T>(tensor));
}
template <class T>
Element<T>* write(const Tensor& tensor) {
  return reinterpret_cast<Element<T>*>(writable_data_of<T>(tensor));
}

template <class T>
Maps<const Element<T>> maps(const Tensor& tensor) {
  return {read<T>(tensor), tensor.size(0), tensor.size(1), tensor.size(2), tensor.size(3),
          tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)};
}
template <class T>
Maps<Element<T>> writable_maps(const Tensor& tensor) {
  return {write<T>(tensor), tensor.size(0), tensor.size(1), tensor.size(2), tensor.size(3),
          tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)};
}

inline void check_regions(const Tensor& rois) {
  CHECK(rois.dim() == 2 && rois.size(1) == 5, "rois must have shape as Tensor[K, 5]");
}

// What every pooling of regions asks of its input.
inline void check_pooled(const char* function, const Tensor& input, const Tensor& rois) {
  CHECK(input.is_cpu(), "input must be a CPU tensor");
  CHECK(rois.is_cpu(), "rois must be a CPU tensor");
  check_regions(rois);
  check_same_type(function, input, "input", rois, "rois");
}

// The output's shape where each bin reads channels of its own.
inline std::vector<int64_t> position_sensitive_shape(
    const Tensor& input,
    const Tensor& rois,
    int64_t pooled_height,
    int64_t pooled_width) {
  const int64_t bins = pooled_height * pooled_width;
  CHECK(input.size(1) % bins == 0, "input channels must be a multiple of pooling height * pooling width");
  return {rois.size(0), input.size(1) / bins, pooled_height, pooled_width};
}

// What nms asks of boxes and scores, plain or quantized.
inline void check_boxes(const Tensor& dets, const Tensor& scores) {
  CHECK(dets.dim() == 2, "boxes should be a 2d tensor, got ", dets.dim(), "D");
  CHECK(dets.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", dets.size(1));
  CHECK(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  CHECK(
      dets.size(0) == scores.size(0),
      "boxes and scores should have same number of elements in dimension 0, got ",
      dets.size(0),
      " and ",
      scores.size(0));
  CHECK(dets.is_cpu(), "dets must be a CPU tensor");
  CHECK(scores.is_cpu(), "scores must be a CPU tensor");
  CHECK(have_same_type(dets, scores), "dets should have the same type as scores");
}

// The result of nms: `select(keep)` writes the numbers of the boxes that stay and returns how many they are. They are
// copied to a tensor of their own size, which takes less time than a view of a larger one.
template <class Select>
Tensor kept_boxes(const Tensor& dets, const Select& select) {
  const std::unique_ptr<int64_t[]> keep(new int64_t[dets.size(0)]);
  const int64_t kept = select(keep.get());
  Tensor numbers = empty_numbers(dets, kept);
  std::copy(keep.get(), keep.get() + kept, write<int64_t>(numbers));
  return numbers;
}

// Upstream reads outside the input where a region names an image that is not there; here it is an error.
template <class T>
void check_images(const Tensor& rois, int64_t batch) {
  CHECK(
      images_exist(read<T>(rois), rois.size(0), batch),
      "a region names an image outside the batch of ",
      batch);
}

} // namespace
} // namespace build_torchvision
