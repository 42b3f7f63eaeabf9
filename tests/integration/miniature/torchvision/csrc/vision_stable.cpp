// What belongs to the module of the stable ABI rather than to one operator.
#include <torch/headeronly/version.h>

#ifndef TORCH_TARGET_VERSION
#error "a unit of the stable ABI that was not told its oldest torch"
#endif
#if defined(WITH_CUDA) && !defined(USE_CUDA)
#error "without USE_CUDA torch does not declare its stream shims"
#endif
