// What every operator on regions asks of them first.

#include "kernels.h"

namespace build_torchvision {

template <class T>
bool images_exist(const T* rois, int64_t regions, int64_t batch) {
  bool all = true;
  for (int64_t n = 0; n < regions; ++n) {
    const float image = static_cast<float>(rois[n * 5]);
    all = all && image > -1.0f && image < static_cast<float>(batch);
  }
  return all;
}

template bool images_exist<float>(const float*, int64_t, int64_t);
template bool images_exist<double>(const double*, int64_t, int64_t);
template bool images_exist<Half>(const Half*, int64_t, int64_t);

} // namespace build_torchvision
