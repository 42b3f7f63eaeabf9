#include "count.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>
#include <torch/types.h>

#ifdef TORCH_TARGET_VERSION
#error "the stable ABI's target version reached a unit of another module"
#endif

namespace vision::ops {
at::Tensor count_positive(const at::Tensor& values) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("torchvision::count_positive", "")
                       .typed<decltype(count_positive)>();
  return op.call(values);
}

TORCH_LIBRARY_FRAGMENT(torchvision, m) {
  m.def("count_positive(Tensor values) -> Tensor");
}
} // namespace vision::ops
