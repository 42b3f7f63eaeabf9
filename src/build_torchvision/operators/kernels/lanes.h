// Feature maps with channels as the fastest dimension, a block of `Lanes` channels at a time.
//
// What a region samples is the same for all channels: with a block of channels next to each other a sample is a few
// whole vectors from one address, where upstream's layout (one plane a channel) gives one element per address.
// A block is a few hundred bytes a pixel, so a map's block stays in the second-level cache while all regions read it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "kernels.h"

// Before a loop over lanes: what it writes is no part of what it reads. Without it compiled code compares the addresses of
// every sample, and has a second loop for the case that never is.
#define INDEPENDENT_LANES _Pragma("clang loop vectorize(assume_safety)")

namespace build_torchvision {

// Uninitialised memory on a cache line.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(static_cast<T*>(::operator new(std::max<int64_t>(count, 1) * sizeof(T), std::align_val_t{64}))) {}
  ~Buffer() {
    ::operator delete(data_, std::align_val_t{64});
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  operator T*() {
    return data_;
  }

 private:
  T* data_;
};

// The same for at most `Most` elements on the stack: what a small call allocates is a good part of its time.
template <class T, int64_t Most>
class Scratch {
 public:
  explicit Scratch(int64_t count) : more_(count <= Most ? nullptr : new Buffer<T>(count)) {}
  operator T*() {
    return more_ ? static_cast<T*>(*more_) : few_;
  }

 private:
  alignas(64) T few_[Most];
  const std::unique_ptr<Buffer<T>> more_;
};

// Lanes of the widest block: 8 or 4 vector registers of sums, whatever the vector unit.
template <class T>
constexpr int kLanes = sizeof(T) == 4 ? 64 : 32;

// What one step of a loop over lanes computes with: one element, of which the compiler makes vectors of its choice, or a
// vector type. Sums of a vector type stay in registers from sample to sample, where compilers keep an array of a plain
// loop in memory. It is taken where any such type is made of whole registers of each ISA: not on Arm, where it would be
// NEON's and SVE's may be wider, and not by gcc, which takes it apart where the ISA's own registers are narrower.
template <class T>
struct Together {
#if defined(__clang__) && defined(__x86_64__)
  typedef T type __attribute__((vector_size(64)));
#else
  using type = T;
#endif
};
template <>
struct Together<Half> {
  using type = Half;
};

template <class Row, class T>
inline Row row(const T* from) {
  Row row;
  std::memcpy(&row, from, sizeof row);
  return row;
}
template <class Row, class T>
inline void set_row(T* to, Row row) {
  std::memcpy(to, &row, sizeof row);
}

// A number of lanes as a type.
template <int Lanes>
struct Width {
  static constexpr int value = Lanes;
};

// Calls body(Width) with a block that suits `channels`. float, which nearly all maps are, has three: every width is code.
template <class T, class Body>
void with_lanes(int64_t channels, const Body& body) {
  if constexpr (sizeof(T) == 4) {
    if (channels <= kLanes<T> / 4) {
      body(Width<kLanes<T> / 4>{});
      return;
    }
    if (channels <= kLanes<T> / 2) {
      body(Width<kLanes<T> / 2>{});
      return;
    }
  }
  body(Width<kLanes<T>>{});
}

// The bits of an element as an integer: transposing moves them and must not touch a NaN.
template <int Size>
struct Bits;
template <>
struct Bits<1> {
  using type = uint8_t;
};
template <>
struct Bits<2> {
  using type = uint16_t;
};
template <>
struct Bits<4> {
  using type = uint32_t;
};
template <>
struct Bits<8> {
  using type = uint64_t;
};

// to[column * to_stride + row] = from[row * from_stride + column] for 8 rows and 8 columns: three rounds of exchanges
// between vectors of 8, which is what an 8x8 transpose costs at least.
template <class T>
inline void transpose_8x8(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  using Element = typename Bits<sizeof(T)>::type;
  typedef Element Row __attribute__((vector_size(8 * sizeof(T))));
  Row r[8], s[8];
  for (int i = 0; i < 8; ++i) {
    std::memcpy(&r[i], from + i * from_stride, sizeof(Row));
  }
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = __builtin_shufflevector(s[i + j], s[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + 2 * j + 1] = __builtin_shufflevector(s[i + j], s[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int j = 0; j < 4; ++j) {
    s[j] = __builtin_shufflevector(r[j], r[4 + j], 0, 1, 2, 3, 8, 9, 10, 11);
    s[4 + j] = __builtin_shufflevector(r[j], r[4 + j], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; ++i) {
    std::memcpy(to + i * to_stride, &s[i], sizeof(Row));
  }
}

// to[column * to_stride + row] = from[row * from_stride + column]. Some columns at a time, so that what is written stays in
// the first-level cache while all rows are read.
template <class T>
void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride) {
  constexpr int64_t kColumns = 64;
  for (int64_t first = 0; first < columns; first += kColumns) {
    const int64_t end = std::min(first + kColumns, columns);
    int64_t row = 0;
    for (; row + 8 <= rows; row += 8) {
      int64_t column = first;
      for (; column + 8 <= end; column += 8) {
        transpose_8x8(from + row * from_stride + column, from_stride, to + column * to_stride + row, to_stride);
      }
      for (; column < end; ++column) {
        for (int64_t i = row; i < row + 8; ++i) {
          to[column * to_stride + i] = from[i * from_stride + column];
        }
      }
    }
    for (; row < rows; ++row) {
      for (int64_t column = first; column < end; ++column) {
        to[column * to_stride + row] = from[row * from_stride + column];
      }
    }
  }
}

// Copies `pixels` pixels of `channels` channels to blocks of Lanes channels; the lanes beyond become 0. Any strides are
// taken: those of neither layout are rare, and get no code for vectors.
template <int Lanes, class T>
[[gnu::noinline]] void pack(const T* from, int64_t channel_stride, int64_t pixel_stride, int64_t pixels, int64_t channels, T* to) {
  if (pixel_stride == 1) {
    transpose(from, channel_stride, channels, pixels, to, Lanes);
  } else if (channel_stride == 1) {
    for (int64_t i = 0; i < pixels; ++i) {
      std::memcpy(to + i * Lanes, from + i * pixel_stride, channels * sizeof(T));
    }
  } else {
    for (int64_t i = 0; i < pixels; ++i) {
#pragma clang loop vectorize(disable) unroll(disable)
      for (int64_t c = 0; c < channels; ++c) {
        to[i * Lanes + c] = from[c * channel_stride + i * pixel_stride];
      }
    }
  }
  if (channels < Lanes) {
    for (int64_t i = 0; i < pixels; ++i) {
      for (int64_t c = channels; c < Lanes; ++c) {
        to[i * Lanes + c] = T(0);
      }
    }
  }
}

// The same, with every element converted to float on the way.
template <int Lanes, class T>
void pack_as_float(
    const T* from,
    int64_t channel_stride,
    int64_t pixel_stride,
    int64_t pixels,
    int64_t channels,
    float* to) {
  constexpr int kTile = 256;
  alignas(64) float tile[Lanes > 16 ? 16 : Lanes][kTile];
  constexpr int kRows = Lanes > 16 ? 16 : Lanes;
  for (int64_t first = 0; first < pixels; first += kTile) {
    const int64_t count = std::min<int64_t>(kTile, pixels - first);
    for (int64_t c = 0; c < Lanes; c += kRows) {
      for (int64_t k = 0; k < kRows; ++k) {
        const T* row = from + (c + k) * channel_stride + first * pixel_stride;
        if (c + k >= channels) {
          std::fill(tile[k], tile[k] + count, 0.0f);
        } else if (pixel_stride == 1) {
          for (int64_t i = 0; i < count; ++i) {
            tile[k][i] = static_cast<float>(row[i]);
          }
        } else {
          for (int64_t i = 0; i < count; ++i) {
            tile[k][i] = static_cast<float>(row[i * pixel_stride]);
          }
        }
      }
      transpose(&tile[0][0], kTile, kRows, count, to + first * Lanes + c, Lanes);
    }
  }
}

// Packs blocks [first, first + count) of every image to `to`: block after block, image after image, each a map of Lanes
// channels. `Packed` is the input's type, or float.
template <int Lanes, class T, class Packed>
void pack_blocks(const Threads& threads, const Maps<const T>& input, int64_t first, int64_t count, Packed* to) {
  const int64_t pixels = input.height * input.width;
  parallel(threads, count * input.batch * input.height, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end;) {
      const int64_t plane = at / input.height, row = at % input.height;
      const int64_t channel = (first + plane / input.batch) * Lanes, image = plane % input.batch;
      const int64_t channels = std::min<int64_t>(Lanes, input.channels - channel);
      // Rows without a gap between them are one run of pixels.
      const bool dense = input.row_stride == input.width * input.column_stride;
      const int64_t rows = dense ? std::min(input.height - row, end - at) : 1;
      const T* from = input.data + image * input.batch_stride + channel * input.channel_stride + row * input.row_stride;
      Packed* block = to + (plane * pixels + row * input.width) * Lanes;
      if constexpr (std::is_same_v<T, Packed>) {
        pack<Lanes>(from, input.channel_stride, input.column_stride, rows * input.width, channels, block);
      } else {
        pack_as_float<Lanes>(from, input.channel_stride, input.column_stride, rows * input.width, channels, block);
      }
      at += rows;
    }
  });
}

// The way back: one plane a channel, pixels next to each other.
template <int Lanes, class T>
void unpack(const T* from, int64_t pixels, int64_t channels, T* to, int64_t channel_stride) {
  transpose(from, Lanes, pixels, channels, to, channel_stride);
}

} // namespace build_torchvision
