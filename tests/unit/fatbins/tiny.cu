// Two kernels under the names that TorchVision's have; the second keeps a table on its stack.
#define GLOBAL __attribute__((global))
namespace vision {
namespace ops {
namespace {
template <typename T>
GLOBAL void tiny_kernel_impl(int n, const T* in, T* out) {
  for (int i = 0; i < n; ++i) out[i] = in[i] * T(2);
}
GLOBAL void table_kernel(const int* at, float* out) {
  float table[64];
  for (int i = 0; i < 64; ++i) table[(i * 7 + at[i]) & 63] = out[i];
  for (int i = 0; i < 64; ++i) out[i] = table[at[i] & 63];
}
template GLOBAL void tiny_kernel_impl<float>(int, const float*, float*);
} // namespace
void* kept[] = {(void*)table_kernel};
} // namespace ops
} // namespace vision
