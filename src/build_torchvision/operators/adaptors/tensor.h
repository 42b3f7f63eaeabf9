// Tensors as the kernels take them. An adaptor is written once for both of torch's interfaces: upstream's build defines
// TORCH_TARGET_VERSION for the extension that keeps to the stable ABI.
#pragma once

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
