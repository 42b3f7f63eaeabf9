#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(torchvision, m) {
  m.def("halve(Tensor values) -> Tensor");
}
