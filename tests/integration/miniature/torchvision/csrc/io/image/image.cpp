#ifdef TORCH_TARGET_VERSION
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#else
#include <torch/library.h>
#endif

extern "C" unsigned png_version();

#ifdef TORCH_TARGET_VERSION
int64_t image_version() {
  return png_version();
}
STABLE_TORCH_LIBRARY_FRAGMENT(image, m) {
  m.def("miniature_version() -> int");
}
STABLE_TORCH_LIBRARY_IMPL(image, CompositeExplicitAutograd, m) {
  m.impl("miniature_version", TORCH_BOX(&image_version));
}
#else
int64_t image_version() {
  return png_version();
}
TORCH_LIBRARY_FRAGMENT(image, m) {
  m.def("miniature_version", &image_version);
}
#endif
