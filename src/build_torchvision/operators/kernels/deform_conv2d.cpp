// The sampling of deform_conv2d: columns for a matrix product, and their gradients.
//
// A sample's place is shared by all channels of an offset group. Maps are packed (lanes.h) with a border of zeros, so
// that a sample is always the four pixels at one address, without a branch for those outside; a tile of samples is
// computed for a block of channels at a time and transposed to the columns' layout in cache. Upstream works out every
// place again for every channel, and the gradient of the offsets reads the map once for each of its two directions.

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "lanes.h"

namespace build_torchvision {

namespace {

constexpr int kTile = 64;  // samples that are computed before they are transposed

// The threads that `cost` nanoseconds a sample and channel are worth.
inline Threads worth_samples(const Threads& threads, const Convolution& shape, double cost) {
  const double samples = static_cast<double>(shape.kernel_height * shape.kernel_width) *
      static_cast<double>(shape.out_height * shape.out_width) * static_cast<double>(shape.batch);
  return worth(threads, samples * static_cast<double>(shape.channels) * cost);
}

// Where one kernel element of one image and offset group samples.
template <class T>
struct Taps {
  const T *offset_h, *offset_w, *mask;
  int64_t out_width;
  int base_h, base_w, stride_h, stride_w;

  Taps(const Convolution& shape, const T* offset, const T* mask_data, int64_t image, int64_t group, int64_t element) {
    const int64_t kernel = shape.kernel_height * shape.kernel_width, area = shape.out_height * shape.out_width;
    const int64_t at = (image * shape.offset_groups + group) * kernel + element;
    offset_h = offset + 2 * at * area;
    offset_w = offset_h + area;
    mask = mask_data ? mask_data + at * area : nullptr;
    out_width = shape.out_width;
    stride_h = static_cast<int>(shape.stride_height);
    stride_w = static_cast<int>(shape.stride_width);
    base_h = static_cast<int>(element / shape.kernel_width * shape.dilation_height - shape.pad_height);
    base_w = static_cast<int>(element % shape.kernel_width * shape.dilation_width - shape.pad_width);
  }

  T row(int64_t at) const {
    return static_cast<int>(at / out_width) * stride_h + base_h + offset_h[at];
  }
  T column(int64_t at) const {
    return static_cast<int>(at % out_width) * stride_w + base_w + offset_w[at];
  }
  T weight(int64_t at) const {
    return mask ? mask[at] : T(1.0f);
  }
};

// One image's channels of an offset group, packed in blocks, with a border of one pixel and one more row below: a
// sample that lies nowhere near the map is given the four zeros there.
template <class T, int Lanes>
class Padded {
 public:
  Padded(const Threads& threads, const Convolution& shape, int64_t channels)
      : height_(shape.height),
        width_(shape.width),
        step_(shape.width + 2),
        channels_(channels),
        size_((shape.height + 3) * (shape.width + 2) * Lanes),
        blocks_((channels + Lanes - 1) / Lanes),
        data_(size_ * blocks_) {
    parallel(threads, blocks_, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        T* block = data_ + b * size_;
        std::fill(block, block + step_ * Lanes, T(0.0f));
        for (int64_t row = 1; row <= height_; ++row) {
          std::fill(block + row * step_ * Lanes, block + (row * step_ + 1) * Lanes, T(0.0f));
          std::fill(block + (row * step_ + step_ - 1) * Lanes, block + (row + 1) * step_ * Lanes, T(0.0f));
        }
        std::fill(block + (height_ + 1) * step_ * Lanes, block + size_, T(0.0f));
      }
    });
  }

  void fill(const Threads& threads, const T* image) {
    const int64_t pixels = height_ * width_;
    parallel(threads, blocks_ * height_, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t b = at / height_, row = at % height_, channel = b * Lanes;
        pack<Lanes>(
            image + channel * pixels + row * width_,
            pixels,
            int64_t{1},
            width_,
            std::min<int64_t>(Lanes, channels_ - channel),
            data_ + b * size_ + ((row + 1) * step_ + 1) * Lanes);
      }
    });
  }

  int64_t blocks() const {
    return blocks_;
  }
  int64_t row_step() const {
    return step_ * Lanes;
  }
  // Where the pixel above and left of (row, column) lies; `row` and `column` from -1 to the last.
  int64_t at(int64_t row, int64_t column) const {
    return ((row + 1) * step_ + column + 1) * Lanes;
  }
  int64_t nowhere() const {
    return (height_ + 1) * step_ * Lanes;
  }
  const T* block(int64_t b) {
    return data_ + b * size_;
  }

 private:
  int64_t height_, width_, step_, channels_, size_, blocks_;
  Buffer<T> data_;
};

template <class T>
struct Bilinear {
  int64_t at;
  T weight1, weight2, weight3, weight4;
};

// A sample less than one pixel outside the map takes what is inside; beyond, it is 0.
template <class T, class Map>
Bilinear<T> bilinear_at(const Map& map, const Convolution& shape, T row, T column) {
  const T zero = T(0.0f);
  if (!(row > -1 && row < static_cast<int>(shape.height) && column > -1 && column < static_cast<int>(shape.width))) {
    return {map.nowhere(), zero, zero, zero, zero};
  }
  const int low_row = static_cast<int>(std::floor(row)), low_column = static_cast<int>(std::floor(column));
  const T rest_row = row - low_row, rest_column = column - low_column;
  const T near_row = 1 - rest_row, near_column = 1 - rest_column;
  return {map.at(low_row, low_column), near_row * near_column, near_row * rest_column, rest_row * near_column, rest_row * rest_column};
}

template <class T, int Lanes>
void columns_of(const Threads& threads, const Convolution& shape, const T* input, const T* offset, const T* mask, T* columns) {
  const int64_t kernel = shape.kernel_height * shape.kernel_width, area = shape.out_height * shape.out_width;
  const int64_t channels = shape.channels / shape.offset_groups, tiles = (area + kTile - 1) / kTile;
  Padded<T, Lanes> map(threads, shape, channels);
  for (int64_t image = 0; image < shape.batch; ++image) {
    for (int64_t group = 0; group < shape.offset_groups; ++group) {
      map.fill(threads, input + (image * shape.channels + group * channels) * shape.height * shape.width);
      parallel(threads, kernel * tiles, [&](int64_t begin, int64_t end) {
        alignas(64) T values[kTile * Lanes];
        Bilinear<T> places[kTile];
        T weights[kTile];
        for (int64_t task = begin; task < end; ++task) {
          const int64_t element = task / tiles, first = task % tiles * kTile;
          const int64_t count = std::min<int64_t>(kTile, area - first);
          const Taps<T> taps(shape, offset, mask, image, group, element);
          for (int64_t i = 0; i < count; ++i) {
            places[i] = bilinear_at(map, shape, taps.row(first + i), taps.column(first + i));
            weights[i] = taps.weight(first + i);
          }
          for (int64_t b = 0; b < map.blocks(); ++b) {
            const T* block = map.block(b);
            for (int64_t i = 0; i < count; ++i) {
              const T *p1 = block + places[i].at, *p2 = p1 + Lanes, *p3 = p1 + map.row_step(), *p4 = p3 + Lanes;
              const T w1 = places[i].weight1, w2 = places[i].weight2, w3 = places[i].weight3, w4 = places[i].weight4;
              const T weight = weights[i];
              T* value = values + i * Lanes;
              INDEPENDENT_LANES
              for (int k = 0; k < Lanes; ++k) {
                const T sample = w1 * p1[k] + w2 * p2[k] + w3 * p3[k] + w4 * p4[k];
                value[k] = weight * sample;
              }
            }
            const int64_t channel = group * channels + b * Lanes;
            transpose(
                values,
                Lanes,
                count,
                std::min<int64_t>(Lanes, channels - b * Lanes),
                columns + ((channel * kernel + element) * shape.batch + image) * area + first,
                kernel * shape.batch * area);
          }
        }
      });
    }
  }
}

// A sample's gradient goes to the up to four pixels that are less than one away on both axes.
template <class T>
struct Shares {
  int count;
  int64_t at[4];
  T weight[4];

  Shares(const Convolution& shape, T row, T column, T mask, int lanes) : count(0) {
    if (!(row > -2 && row < static_cast<int>(shape.height) + 1 && column > -2 && column < static_cast<int>(shape.width) + 1)) {
      return;
    }
    for (int dy = -1; dy <= 1; ++dy) {
      const int y = static_cast<int>(row) + dy;
      const auto far_y = std::abs(row - y);  // of a Half it is a float: one rounding, below
      if (y < 0 || y >= shape.height || !(far_y < 1)) {
        continue;
      }
      for (int dx = -1; dx <= 1; ++dx) {
        const int x = static_cast<int>(column) + dx;
        const auto far_x = std::abs(column - x);
        if (x < 0 || x >= shape.width || !(far_x < 1)) {
          continue;
        }
        const T near = (1 - far_y) * (1 - far_x);
        at[count] = (y * shape.width + x) * lanes;
        weight[count++] = mask * near;
      }
    }
  }
};

template <class T, int Lanes>
void grad_input_of(const Threads& threads, const Convolution& shape, const T* columns, const T* offset, const T* mask, T* grad_input) {
  const int64_t kernel = shape.kernel_height * shape.kernel_width, area = shape.out_height * shape.out_width;
  const int64_t channels = shape.channels / shape.offset_groups, pixels = shape.height * shape.width;
  const int64_t blocks = (channels + Lanes - 1) / Lanes;
  parallel(threads, shape.batch * shape.offset_groups * blocks, [&](int64_t begin, int64_t end) {
    Buffer<T> map(pixels * Lanes);
    alignas(64) T tile[kTile * Lanes];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / (shape.offset_groups * blocks), group = task / blocks % shape.offset_groups;
      const int64_t block = task % blocks, here = std::min<int64_t>(Lanes, channels - block * Lanes);
      const int64_t channel = group * channels + block * Lanes;
      std::fill(static_cast<T*>(map), map + pixels * Lanes, T(0.0f));
      std::fill(tile, tile + kTile * Lanes, T(0.0f));
      for (int64_t element = 0; element < kernel; ++element) {
        const Taps<T> taps(shape, offset, mask, image, group, element);
        for (int64_t first = 0; first < area; first += kTile) {
          const int64_t count = std::min<int64_t>(kTile, area - first);
          transpose(
              columns + ((channel * kernel + element) * shape.batch + image) * area + first,
              kernel * shape.batch * area,
              here,
              count,
              tile,
              Lanes);
          for (int64_t i = 0; i < count; ++i) {
            const Shares<T> shares(shape, taps.row(first + i), taps.column(first + i), taps.weight(first + i), Lanes);
            const T* gradient = tile + i * Lanes;
            for (int s = 0; s < shares.count; ++s) {
              T* pixel = map + shares.at[s];
              const T weight = shares.weight[s];
              INDEPENDENT_LANES
              for (int k = 0; k < Lanes; ++k) {
                pixel[k] += weight * gradient[k];
              }
            }
          }
        }
      }
      unpack<Lanes>(static_cast<T*>(map), pixels, here, grad_input + (image * shape.channels + channel) * pixels, pixels);
    }
  });
}

// A sample's place for its derivatives: unlike the sample itself they are not 0 exactly one pixel outside.
template <class T>
struct Slope {
  int64_t at;
  T rest_row, rest_column;
  Bilinear<T> sample;

  template <class Map>
  Slope(const Map& map, const Convolution& shape, T row, T column) : sample(bilinear_at(map, shape, row, column)) {
    at = map.nowhere();
    rest_row = rest_column = T(0.0f);
    if (row >= -1 && row < static_cast<int>(shape.height) && column >= -1 && column < static_cast<int>(shape.width)) {
      const int low_row = static_cast<int>(std::floor(row)), low_column = static_cast<int>(std::floor(column));
      at = map.at(low_row, low_column);
      rest_row = row - low_row;
      rest_column = column - low_column;
    }
  }
  Slope() = default;
};

template <class T>
struct Sums {
  T row[kTile], column[kTile], mask[kTile];
};

// Adds one channel's part: `slopes` and `samples` are that channel's, `gradient` its row of the columns.
template <class T, bool Masked>
inline void add_channel(Sums<T>& sums, const T* row_slopes, const T* column_slopes, const T* samples, const T* weights, const T* gradient, int64_t count) {
  INDEPENDENT_LANES
  for (int64_t i = 0; i < count; ++i) {
    sums.row[i] += weights[i] * row_slopes[i] * gradient[i];
    sums.column[i] += weights[i] * column_slopes[i] * gradient[i];
    if (Masked) {
      sums.mask[i] += gradient[i] * samples[i];
    }
  }
}

template <class T, int Lanes, bool Masked>
void grad_offset_of(const Threads& threads, const Convolution& shape, const T* columns, const T* input, const T* offset, const T* mask, T* grad_offset, T* grad_mask) {
  const int64_t kernel = shape.kernel_height * shape.kernel_width, area = shape.out_height * shape.out_width;
  const int64_t channels = shape.channels / shape.offset_groups, tiles = (area + kTile - 1) / kTile;
  Padded<T, Lanes> map(threads, shape, channels);
  for (int64_t image = 0; image < shape.batch; ++image) {
    for (int64_t group = 0; group < shape.offset_groups; ++group) {
      map.fill(threads, input + (image * shape.channels + group * channels) * shape.height * shape.width);
      parallel(threads, kernel * tiles, [&](int64_t begin, int64_t end) {
        alignas(64) T packed[3][kTile * Lanes], planes[3][Lanes * kTile];
        Slope<T> places[kTile];
        T weights[kTile];
        std::fill(&packed[0][0], &packed[0][0] + 3 * kTile * Lanes, T(0.0f));
        for (int64_t task = begin; task < end; ++task) {
          const int64_t element = task / tiles, first = task % tiles * kTile;
          const int64_t count = std::min<int64_t>(kTile, area - first);
          const Taps<T> taps(shape, offset, mask, image, group, element);
          for (int64_t i = 0; i < count; ++i) {
            places[i] = Slope<T>(map, shape, taps.row(first + i), taps.column(first + i));
            weights[i] = taps.weight(first + i);
          }
          Sums<T> sums;
          std::fill(sums.row, sums.row + kTile, T(0.0f));
          std::fill(sums.column, sums.column + kTile, T(0.0f));
          std::fill(sums.mask, sums.mask + kTile, T(0.0f));
          for (int64_t b = 0; b < map.blocks(); ++b) {
            const T* block = map.block(b);
            for (int64_t i = 0; i < count; ++i) {
              const Slope<T>& place = places[i];
              const T *p1 = block + place.at, *p2 = p1 + Lanes, *p3 = p1 + map.row_step(), *p4 = p3 + Lanes;
              const T dx = place.rest_column, ex = 1 - dx, dy = place.rest_row, ey = 1 - dy;
              T *row_slope = packed[0] + i * Lanes, *column_slope = packed[1] + i * Lanes;
              INDEPENDENT_LANES
              for (int k = 0; k < Lanes; ++k) {
                row_slope[k] = dx * (p4[k] - p2[k]) + ex * (p3[k] - p1[k]);
                column_slope[k] = dy * (p4[k] - p3[k]) + ey * (p2[k] - p1[k]);
              }
              if (Masked) {
                const T *q1 = block + place.sample.at, *q2 = q1 + Lanes, *q3 = q1 + map.row_step(), *q4 = q3 + Lanes;
                const T w1 = place.sample.weight1, w2 = place.sample.weight2, w3 = place.sample.weight3, w4 = place.sample.weight4;
                T* sample = packed[2] + i * Lanes;
                INDEPENDENT_LANES
                for (int k = 0; k < Lanes; ++k) {
                  sample[k] = w1 * q1[k] + w2 * q2[k] + w3 * q3[k] + w4 * q4[k];
                }
              }
            }
            const int64_t here = std::min<int64_t>(Lanes, channels - b * Lanes);
            for (int part = 0; part < (Masked ? 3 : 2); ++part) {
              transpose(packed[part], Lanes, count, here, planes[part], kTile);
            }
            for (int64_t c = 0; c < here; ++c) {
              const int64_t channel = group * channels + b * Lanes + c;
              const T* gradient = columns + ((channel * kernel + element) * shape.batch + image) * area + first;
              add_channel<T, Masked>(sums, planes[0] + c * kTile, planes[1] + c * kTile, planes[2] + c * kTile, weights, gradient, count);
            }
          }
          const int64_t at = (image * shape.offset_groups + group) * kernel + element;
          std::copy(sums.row, sums.row + count, grad_offset + 2 * at * area + first);
          std::copy(sums.column, sums.column + count, grad_offset + (2 * at + 1) * area + first);
          if (Masked) {
            std::copy(sums.mask, sums.mask + count, grad_mask + at * area + first);
          }
        }
      });
    }
  }
}

// float has two widths, for a group of few channels and for any other.
template <class T, class Body>
void by_lanes(const Convolution& shape, const Body& body) {
  if constexpr (sizeof(T) == 4) {
    if (shape.channels / shape.offset_groups > 16) {
      body(Width<32>{});
      return;
    }
  }
  body(Width<16>{});
}

} // namespace

template <class T>
void deform_columns(const Threads& threads, const Convolution& shape, const T* input, const T* offset, const T* mask, T* columns) {
  by_lanes<T>(shape, [&](auto width) {
    columns_of<T, decltype(width)::value>(worth_samples(threads, shape, 0.5), shape, input, offset, mask, columns);
  });
}

template <class T>
void deform_grad_input(const Threads& threads, const Convolution& shape, const T* columns, const T* offset, const T* mask, T* grad_input) {
  by_lanes<T>(shape, [&](auto width) {
    grad_input_of<T, decltype(width)::value>(worth_samples(threads, shape, 1.0), shape, columns, offset, mask, grad_input);
  });
}

template <class T>
void deform_grad_offset_mask(const Threads& threads, const Convolution& shape, const T* columns, const T* input, const T* offset, const T* mask, T* grad_offset, T* grad_mask) {
  by_lanes<T>(shape, [&](auto width) {
    constexpr int Lanes = decltype(width)::value;
    const Threads used = worth_samples(threads, shape, 1.0);
    if (mask) {
      grad_offset_of<T, Lanes, true>(used, shape, columns, input, offset, mask, grad_offset, grad_mask);
    } else {
      grad_offset_of<T, Lanes, false>(used, shape, columns, input, offset, mask, grad_offset, grad_mask);
    }
  });
}

#define INSTANTIATE(T)                                                                                            \
  template void deform_columns<T>(const Threads&, const Convolution&, const T*, const T*, const T*, T*);          \
  template void deform_grad_input<T>(const Threads&, const Convolution&, const T*, const T*, const T*, T*);       \
  template void deform_grad_offset_mask<T>(                                                                       \
      const Threads&, const Convolution&, const T*, const T*, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Half)
#undef INSTANTIATE

} // namespace build_torchvision
