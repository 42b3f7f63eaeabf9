#include <torch/library.h>

#include "ops/count.h"

namespace vision {
int64_t cuda_version() {
#ifdef WITH_CUDA
  return 1;
#else
  return -1;
#endif
}

TORCH_LIBRARY_FRAGMENT(torchvision, m) {
  m.def("_cuda_version", &cuda_version);
}
} // namespace vision
