// Greedy non-maximum suppression.
//
// Boxes are copied once into the order of their scores, one array a coordinate. A kept box is then compared with whole
// vectors of boxes that come after it, where upstream follows an index to each box and branches on it. Boxes are kept
// in groups: a group's boxes first settle among themselves, then strike out of the rest, a cache's worth at a time; and
// where many of the rest are struck out, the remaining ones are moved together.
// Which boxes are kept is upstream's, bit for bit: an overlap is compared with the threshold as if it had been divided
// and rounded as upstream does.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include "kernels.h"
#include "lanes.h"

namespace build_torchvision {

namespace {

constexpr int64_t kGroup = 64;     // boxes that settle among themselves
constexpr int64_t kChunk = 512;    // boxes that stay in the first-level cache while a group strikes
constexpr int64_t kBlock = 16;     // boxes that are compared at once, whole vectors of every type
constexpr int64_t kShortSort = 256; // up to here comparing every pair of keys is faster than counting digits

// A key whose unsigned order is the order of scores, the best first: NaN is better than anything, -0 equals 0.
inline uint32_t order_key(float score) {
  if (score != score) {
    return 0;
  }
  score += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return ~(bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}
inline uint64_t order_key(double score) {
  if (score != score) {
    return 0;
  }
  score += 0.0;
  uint64_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return ~(bits >> 63 ? ~bits : bits | 0x8000000000000000u);
}
template <class T>
inline uint64_t order_key(T score) {
  return ~(static_cast<uint64_t>(static_cast<int64_t>(score)) ^ 0x8000000000000000u);
}

inline int64_t whole_blocks(int64_t count) {
  return (count + kBlock - 1) / kBlock * kBlock;
}

// The place of every key in the order: as many as are less, or the same and before it. `keys` has whole blocks, those
// beyond `count` anything. Keys are signed, as vector units compare numbers.
//
// All keys pass some of them, which stay in a register with their places: as a vector, for compilers keep the arrays of
// plain loops in memory, which takes three times as long.
template <class Key>
void rank_keys(const Key* keys, int64_t count, Key* places) {
  constexpr int kRow = 32 / sizeof(Key);
  typedef Key Row __attribute__((vector_size(32)));
  Row lanes;
  for (int k = 0; k < kRow; ++k) {
    lanes[k] = k;
  }
  for (int64_t first = 0; first < count; first += kRow) {
    Row own, place = {};
    std::memcpy(&own, keys + first, sizeof own);
    const int64_t end = std::min(first + kRow, count);
    for (int64_t j = 0; j < first; ++j) {
      place -= keys[j] <= own;
    }
    for (int64_t j = first; j < end; ++j) {
      place -= (keys[j] < own) | ((keys[j] == own) & (lanes > static_cast<Key>(j - first)));
    }
    for (int64_t j = end; j < count; ++j) {
      place -= keys[j] < own;
    }
    std::memcpy(places + first, &place, sizeof place);
  }
}

template <class Key>
struct Scored {
  Key key;
  int64_t number;
};

// Stable: equal scores keep their order, as in torch.sort(stable=True, descending=True).
template <class Key>
void sort_by_key(Scored<Key>* items, int64_t count) {
  constexpr int kDigit = 8, kValues = 1 << kDigit, kDigits = sizeof(Key) * 8 / kDigit;
  int64_t counts[kDigits][kValues] = {};
  for (int64_t i = 0; i < count; ++i) {
    for (int d = 0; d < kDigits; ++d) {
      ++counts[d][items[i].key >> (d * kDigit) & (kValues - 1)];
    }
  }
  Buffer<Scored<Key>> other(count);
  Scored<Key>*from = items, *to = other;
  for (int d = 0; d < kDigits; ++d) {
    int64_t* starts = counts[d];
    if (starts[from[0].key >> (d * kDigit) & (kValues - 1)] == count) {
      continue;  // all the same here
    }
    int64_t sum = 0;
    for (int v = 0; v < kValues; ++v) {
      const int64_t here = starts[v];
      starts[v] = sum;
      sum += here;
    }
    for (int64_t i = 0; i < count; ++i) {
      to[starts[from[i].key >> (d * kDigit) & (kValues - 1)]++] = from[i];
    }
    std::swap(from, to);
  }
  if (from != items) {
    std::memcpy(static_cast<void*>(items), from, count * sizeof(Scored<Key>));
  }
}

// An integer as wide as T, for its bits.
template <class T>
using Word = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

template <class T>
struct Boxes {
  T *left, *top, *right, *bottom, *area;
  Word<T>* struck;  // less than 0: an overlap with a kept box exceeds the threshold
  int64_t* number;
};

// `Product` and `Quotient` give by how much an overlap falls short of what strikes a box: less than 0 if and only if
// overlap / total, rounded to T, is more than the threshold. They are given the overlap's width (at least 0), what it
// lacks in height (less than 0 where it has one), and the sum of both areas.

// Without dividing. The quotient rounds to more than `threshold` (of type T) if and only if it is beyond the middle between
// threshold and the next number: it never is that middle, which has one bit more than an overlap can have. So what is
// asked is threshold * total - overlap + half_step * total. With fused multiply-add the difference is exact near equality,
// half_step is a power of 2, and a sum rounds to 0 only where it is 0. Boxes that do not meet have a negative overlap here,
// and stay. It needs numbers that do not underflow on the way: see `ordinary`.
template <class T>
struct Product {
  T threshold, half_step;
  T operator()(T width, T lack, T areas) const {
    const T negative = width * lack, total = areas + negative;
    return std::fma(half_step, total, std::fma(threshold, total, negative));
  }
};

template <class T>
struct Quotient {
  T threshold;
  T operator()(T width, T lack, T areas) const {
    const T height = -lack, overlap = width * (0 < height ? height : 0);
    return overlap / (areas - overlap) > threshold ? T(-1) : T(0);
  }
};

// Strikes boxes [begin, end), whole blocks, that overlap box i too much. max and min take their first argument for NaN,
// as std::max.
template <class T, class Margin>
inline void strike(const Boxes<T>& boxes, int64_t i, int64_t begin, int64_t end, Margin margin) {
  const T left = boxes.left[i], top = boxes.top[i], right = boxes.right[i], bottom = boxes.bottom[i], area = boxes.area[i];
  const T *lefts = boxes.left, *tops = boxes.top, *rights = boxes.right, *bottoms = boxes.bottom, *areas = boxes.area;
  Word<T>* __restrict__ struck = boxes.struck;
  begin &= -kBlock;  // as they are: said so that no loop over single elements follows
  end &= -kBlock;
#pragma clang loop vectorize(assume_safety) interleave(disable)
  for (int64_t j = begin; j < end; ++j) {
    const T l = left < lefts[j] ? lefts[j] : left, t = top < tops[j] ? tops[j] : top;
    const T r = rights[j] < right ? rights[j] : right, b = bottoms[j] < bottom ? bottoms[j] : bottom;
    const T w = r - l, short_of = margin(0 < w ? w : 0, t - b, area + areas[j]);
    Word<T> bits;  // signs are collected: of a comparison with `struck`, compilers make a store under a mask
    std::memcpy(&bits, &short_of, sizeof bits);
    struck[j] |= bits;
  }
}

// The boxes stand in the order of their scores; those up to the next whole block are there, and anything.
template <class T, class Margin>
int64_t settle(const Threads& threads, const Boxes<T>& boxes, int64_t count, const Margin& margin, int64_t* keep) {
  int64_t kept = 0, begin = 0, end = count;
  while (begin < end) {
    const int64_t group = std::min(begin + kGroup, end), first = begin;
    int64_t strikers[kGroup], strikes = 0;
    for (int64_t i = begin; i < group; ++i) {
      if (boxes.struck[i] >= 0) {
        keep[kept++] = boxes.number[i];
        strikers[strikes++] = i;
        // Boxes before i are settled: that they are struck too has no effect.
        strike(boxes, i, (i + 1) / kBlock * kBlock, whole_blocks(group), margin);
      }
    }
    begin = group;
    const int64_t rest = end - begin;
    if (rest == 0) {
      break;
    }
    const Threads used = worth(threads, static_cast<double>(rest) * static_cast<double>(strikes) * 0.5);
    parallel(used, whole_blocks(rest) / kBlock, [&](int64_t from, int64_t to) {
      const int64_t last = begin + to * kBlock;
      for (int64_t chunk = begin + from * kBlock; chunk < last; chunk += kChunk) {
        for (int64_t k = 0; k < strikes; ++k) {
          strike(boxes, strikers[k], chunk, std::min(chunk + kChunk, last), margin);
        }
      }
    });
    int64_t struck = 0;
    for (int64_t j = begin; j < end; ++j) {
      struck += boxes.struck[j] < 0;
    }
    if (struck * 5 > rest) {
      // The remaining boxes move down to the group's place: they are fewer than what they are read from.
      int64_t to = first;
      for (int64_t j = begin; j < end; ++j) {
        boxes.left[to] = boxes.left[j];
        boxes.top[to] = boxes.top[j];
        boxes.right[to] = boxes.right[j];
        boxes.bottom[to] = boxes.bottom[j];
        boxes.area[to] = boxes.area[j];
        boxes.number[to] = boxes.number[j];
        to += boxes.struck[j] < 0 ? 0 : 1;
      }
      std::fill(boxes.struck + first, boxes.struck + to, Word<T>(0));
      begin = first;
      end = to;
    }
  }
  return kept;
}

// Whether `Product` holds for these boxes: no corner is NaN or so far out that products overflow, no side negative, and
// areas are 0 or far from where products underflow, and not less than the product of the sides (an area of large integers
// may have wrapped around). An overlap is then at most either area, and a total 0 or about as large as the larger one.
template <class T>
bool ordinary(const Boxes<T>& boxes, int64_t count, T threshold) {
  constexpr T small = static_cast<T>(8.67e-19), large = static_cast<T>(1.15e18);  // about 2^-60 and 2^60
  if (!(threshold >= static_cast<T>(1e-6) && threshold <= 1)) {
    return false;
  }
  Word<T> odd = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T left = boxes.left[i], top = boxes.top[i], right = boxes.right[i], bottom = boxes.bottom[i];
    const T width = right - left, height = bottom - top, area = boxes.area[i];
    const bool fine = (left >= -large) & (top >= -large) & (right <= large) & (bottom <= large) & (width >= 0) &
        (height >= 0) & (area <= large) & ((area == 0) | (area >= small)) & (area >= width * height);
    odd |= fine ? 0 : 1;
  }
  return !odd;
}

// `read(number)` gives a box's four coordinates, `area_of` its area, both as T.
template <class T, class Key, class Score, class Read>
int64_t suppress(const Threads& threads, int64_t count, double threshold, const Score& score, const Read& read, int64_t* keep) {
  const int64_t room = whole_blocks(count);
  Scratch<T, 5 * kShortSort> coordinates(5 * room);
  Scratch<Word<T>, kShortSort> struck(room);
  Scratch<int64_t, kShortSort> numbers(room);
  T* base = coordinates;
  const Boxes<T> boxes{base, base + room, base + 2 * room, base + 3 * room, base + 4 * room, struck, numbers};
  if (count <= kShortSort) {
    using Signed = std::make_signed_t<Key>;
    Signed keys[kShortSort], places[kShortSort];
    std::fill(keys + count, keys + room, Signed(0));
    for (int64_t i = 0; i < count; ++i) {
      keys[i] = static_cast<Signed>(order_key(score(i)) ^ Key(1) << (sizeof(Key) * 8 - 1));
    }
    rank_keys(keys, count, places);
    for (int64_t i = 0; i < count; ++i) {
      boxes.number[places[i]] = i;
      read(boxes, places[i], i);
    }
  } else {
    Buffer<Scored<Key>> items(count);
    for (int64_t i = 0; i < count; ++i) {
      items[i] = {static_cast<Key>(order_key(score(i))), i};
    }
    sort_by_key<Key>(items, count);
    for (int64_t i = 0; i < count; ++i) {
      boxes.number[i] = items[i].number;
      read(boxes, i, items[i].number);
    }
  }
  for (T* each : {boxes.left, boxes.top, boxes.right, boxes.bottom, boxes.area}) {
    std::fill(each + count, each + room, T(0));
  }
  std::fill(boxes.struck, boxes.struck + room, Word<T>(0));
  // The largest T that is not more than the threshold: a T is more than the one exactly when it is more than the other.
  T limit = static_cast<T>(threshold);
  if (static_cast<double>(limit) > threshold) {
    limit = std::nextafter(limit, -std::numeric_limits<T>::infinity());
  }
  if (ordinary(boxes, count, limit)) {
    const T half_step = (std::nextafter(limit, T(2)) - limit) / 2;
    return settle(threads, boxes, count, Product<T>{limit, half_step}, keep);
  }
  return settle(threads, boxes, count, Quotient<T>{limit}, keep);
}

} // namespace

template <class T>
int64_t nms(const Threads& threads, const T* data, int64_t box_stride, int64_t coordinate_stride, const T* scores, int64_t score_stride, int64_t count, double threshold, int64_t* keep) {
  using Key = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  return suppress<T, Key>(
      threads,
      count,
      threshold,
      [&](int64_t i) { return scores[i * score_stride]; },
      [&](const Boxes<T>& boxes, int64_t to, int64_t from) {
        const T* box = data + from * box_stride;
        boxes.left[to] = box[0];
        boxes.top[to] = box[coordinate_stride];
        boxes.right[to] = box[2 * coordinate_stride];
        boxes.bottom[to] = box[3 * coordinate_stride];
        boxes.area[to] = (boxes.right[to] - boxes.left[to]) * (boxes.bottom[to] - boxes.top[to]);
      },
      keep);
}

template <class T>
int64_t quantized_nms(const Threads& threads, const T* data, int64_t box_stride, int64_t coordinate_stride, const T* scores, int64_t score_stride, int64_t count, double threshold, bool exact_areas, int64_t* keep) {
  return suppress<float, uint64_t>(
      threads,
      count,
      threshold,
      [&](int64_t i) { return scores[i * score_stride]; },
      [&](const Boxes<float>& boxes, int64_t to, int64_t from) {
        const T* box = data + from * box_stride;
        const T l = box[0], t = box[coordinate_stride], r = box[2 * coordinate_stride], b = box[3 * coordinate_stride];
        boxes.left[to] = static_cast<float>(l);
        boxes.top[to] = static_cast<float>(t);
        boxes.right[to] = static_cast<float>(r);
        boxes.bottom[to] = static_cast<float>(b);
        boxes.area[to] = exact_areas
            ? static_cast<float>((r - l) * (b - t))
            : (boxes.right[to] - boxes.left[to]) * (boxes.bottom[to] - boxes.top[to]);
      },
      keep);
}

template int64_t nms<float>(const Threads&, const float*, int64_t, int64_t, const float*, int64_t, int64_t, double, int64_t*);
template int64_t nms<double>(const Threads&, const double*, int64_t, int64_t, const double*, int64_t, int64_t, double, int64_t*);
#define INSTANTIATE(T)                                                                                         \
  template int64_t quantized_nms<T>(                                                                           \
      const Threads&, const T*, int64_t, int64_t, const T*, int64_t, int64_t, double, bool, int64_t*);
INSTANTIATE(uint8_t)
INSTANTIATE(int8_t)
INSTANTIATE(int16_t)
INSTANTIATE(int32_t)
INSTANTIATE(int64_t)
#undef INSTANTIATE

} // namespace build_torchvision
