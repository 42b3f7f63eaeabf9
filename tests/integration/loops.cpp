// Loops that a vectoriser likes, and what tempts a compiler to put data beside code: compiled by test_arm.py.
#include <atomic>
#include <cstdint>

void axpy(float* __restrict y, const float* __restrict x, float a, int n) {
  for (int i = 0; i < n; i++) y[i] += a * x[i];
}
void average(uint8_t* __restrict y, const uint8_t* __restrict x, const uint8_t* __restrict z, int n) {
  for (int i = 0; i < n; i++) y[i] = (x[i] + z[i] + 1) >> 1;
}
int dot(const int8_t* x, const int8_t* y, int n) {
  int sum = 0;
  for (int i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}
void gather(float* __restrict y, const float* __restrict x, const int* __restrict k, int n) {
  for (int i = 0; i < n; i++) y[i] = x[k[i]];
}
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
#include <arm_neon.h>
float16x8_t halves(float16x8_t a, float16x8_t b) { return vaddq_f16(a, vmulq_f16(a, b)); }
#endif
void multiply(float* __restrict c, const float* __restrict a, const float* __restrict b, int n) {
  for (int i = 0; i < n; i++) {
    c[2 * i] += a[2 * i] * b[2 * i] - a[2 * i + 1] * b[2 * i + 1];
    c[2 * i + 1] += a[2 * i] * b[2 * i + 1] + a[2 * i + 1] * b[2 * i];
  }
}
void count(int* counts, const uint8_t* x, int n) {
  for (int i = 0; i < n; i++) counts[x[i]]++;
}
void positive(float* __restrict y, const float* __restrict x, int n) {
  for (int i = 0; i < n; i++)
    if (x[i] > 0) y[i] = x[i];
}
void narrow(uint16_t* __restrict y, const uint32_t* __restrict x, int n) {
  for (int i = 0; i < n; i++) y[i] = (uint16_t)(x[i] >> 7);
}
double sum(const double* x, int n) {
  double total = 0;
  for (int i = 0; i < n; i++) total += x[i];
  return total;
}
long add(std::atomic<long>& a) { return a.fetch_add(3); }
long load(std::atomic<long>& a) { return a.load(std::memory_order_acquire); }
long table(long a, long b) {
  switch (a) {
    case 0: return b * 3;
    case 1: return b + 7;
    case 2: return b / 3;
    case 3: return b ^ 55;
    case 4: return b << 3;
    case 5: return ~b;
    case 6: return b % 13;
    default: return 0;
  }
}
