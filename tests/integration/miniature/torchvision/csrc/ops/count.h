#pragma once
#include <ATen/core/Tensor.h>

namespace vision::ops {
at::Tensor count_positive(const at::Tensor& values);
}
