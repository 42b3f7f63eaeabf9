// The element types of the operators, and loops over threads. No header of torch: a kernel is compiled once per ISA.
#pragma once

#include <cstdint>

namespace build_torchvision {

// IEEE binary16 as torch computes with it on a CPU: an operation is done in float and its result rounded to binary16.
// Mixed operations follow torch's: with an integer they round the integer first, with a double they are double's.
struct Half {
  _Float16 value;

  Half() = default;
  Half(float number) : value(static_cast<_Float16>(number)) {}
  operator float() const {
    return static_cast<float>(value);
  }
};

inline Half operator+(Half a, Half b) {
  return static_cast<float>(a) + static_cast<float>(b);
}
inline Half operator-(Half a, Half b) {
  return static_cast<float>(a) - static_cast<float>(b);
}
inline Half operator*(Half a, Half b) {
  return static_cast<float>(a) * static_cast<float>(b);
}
inline Half operator/(Half a, Half b) {
  return static_cast<float>(a) / static_cast<float>(b);
}
inline Half operator-(Half a) {
  return -static_cast<float>(a);
}
inline Half operator+(int a, Half b) {
  return Half(static_cast<float>(a)) + b;
}
inline Half operator+(Half a, int b) {
  return a + Half(static_cast<float>(b));
}
inline Half operator-(int a, Half b) {
  return Half(static_cast<float>(a)) - b;
}
inline Half operator-(Half a, int b) {
  return a - Half(static_cast<float>(b));
}
inline Half operator*(int a, Half b) {
  return Half(static_cast<float>(a)) * b;
}
inline Half operator/(Half a, int b) {
  return a / Half(static_cast<float>(b));
}
inline double operator-(double a, Half b) {
  return a - static_cast<double>(static_cast<float>(b));
}
inline Half& operator+=(Half& a, Half b) {
  return a = a + b;
}
inline Half& operator/=(Half& a, Half b) {
  return a = a / b;
}

// Who runs a loop's iterations: torch's threads. `run` calls `body` with ranges of [0, count) of at least `grain`.
struct Threads {
  int64_t count;
  void (*run)(int64_t count, int64_t grain, void (*body)(int64_t begin, int64_t end, void* context), void* context);
};

// What a thread is worth, in about nanoseconds of work: waking one costs some microseconds, on a busy machine tens.
constexpr double kThreadWork = 1 << 16;

// As many of the threads as `work` is worth, an estimate in about nanoseconds; at least one.
inline Threads worth(const Threads& threads, double work) {
  const double most = work / kThreadWork;
  const int64_t count = most < static_cast<double>(threads.count) ? static_cast<int64_t>(most) : threads.count;
  return {count < 1 ? 1 : count, threads.run};
}

// Calls body(begin, end) for ranges that cover [0, count), one a thread; in this thread where there is only one.
template <class Body>
void parallel(const Threads& threads, int64_t count, const Body& body) {
  if (count <= 0) {
    return;
  }
  if (threads.count <= 1 || count == 1) {
    body(int64_t{0}, count);
    return;
  }
  auto call = [](int64_t begin, int64_t end, void* context) {
    (*static_cast<const Body*>(context))(begin, end);
  };
  const int64_t share = (count + threads.count - 1) / threads.count;
  threads.run(count, share, call, const_cast<void*>(static_cast<const void*>(&body)));
}

} // namespace build_torchvision
