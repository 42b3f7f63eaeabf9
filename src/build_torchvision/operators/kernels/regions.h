// Where a region's samples and bins lie. A sample's row depends on the bin's row alone and its column on the bin's
// column, so both are worked out once a region, not once a sample or channel.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace build_torchvision {

// A sample on one axis: between pixels `low` and `high`, `rest` from low and `near` = 1 - rest from high.
template <class T>
struct Sample {
  int64_t low, high;
  T rest, near;
  bool inside;
};

// The sample at `at` on an axis of `size` pixels; more than one pixel outside there is none.
template <class T>
inline Sample<T> sample_at(T at, int64_t size) {
  Sample<T> sample;
  sample.inside = at >= -1.0 && at <= static_cast<int>(size);
  if (!sample.inside) {
    sample.low = sample.high = 0;
    sample.rest = sample.near = T(0.0f);
    return sample;
  }
  if (at <= 0) {
    at = 0;
  }
  int low = static_cast<int>(at), high = low + 1;
  const int last = static_cast<int>(size) - 1;
  if (low >= last) {
    high = low = last;
    at = static_cast<T>(low);
  }
  sample.low = low;
  sample.high = high;
  sample.rest = at - low;
  sample.near = 1. - sample.rest;
  return sample;
}

// One axis of a region for roi_align and ps_roi_align: where it starts, a bin's size, and samples in a bin.
template <class T>
struct Grid {
  T start, bin;
  int samples;
  int64_t bins;
};

// The samples of every bin on one axis, bin after bin. `step` is the distance of pixels in memory.
//
// The order of operations is the one that fixes the rounding: (start + bin number * bin size) + (sample + 1/2) * bin
// size / samples. The last term is the same in every bin.
template <class T>
void place_samples(const Grid<T>& grid, int64_t size, int64_t step, Sample<T>* samples) {
  for (int i = 0; i < grid.samples; ++i) {
    const T within = static_cast<T>(i + .5f) * grid.bin / static_cast<T>(static_cast<float>(grid.samples));
    for (int64_t p = 0; p < grid.bins; ++p) {
      const T at = grid.start + static_cast<int>(p) * grid.bin + within;
      Sample<T> sample = sample_at(at, size);
      sample.low *= step;
      sample.high *= step;
      samples[p * grid.samples + i] = sample;
    }
  }
}

// A region of roi_align. Its edges are pixel coordinates times the scale, half a pixel less where `aligned`.
template <class T>
struct Region {
  int64_t image;
  Grid<T> rows, columns;
};

template <class T>
Region<T> align_region(const T* roi, T scale, const Pooling& pooling, bool at_least_one_pixel) {
  const T offset = pooling.aligned ? T(0.5f) : T(0.0f);
  const T left = roi[1] * scale - offset, top = roi[2] * scale - offset;
  const T right = roi[3] * scale - offset, bottom = roi[4] * scale - offset;
  T width = right - left, height = bottom - top;
  if (at_least_one_pixel) {
    width = std::max(width, T(1.0f));
    height = std::max(height, T(1.0f));
  }
  const int bins_h = static_cast<int>(pooling.height), bins_w = static_cast<int>(pooling.width);
  const int ratio = static_cast<int>(pooling.sampling_ratio);
  Region<T> region;
  region.image = static_cast<int>(roi[0]);
  region.rows = {top, height / static_cast<T>(static_cast<float>(bins_h)), ratio, pooling.height};
  region.columns = {left, width / static_cast<T>(static_cast<float>(bins_w)), ratio, pooling.width};
  if (ratio <= 0) {
    region.rows.samples = static_cast<int>(std::ceil(height / bins_h));
    region.columns.samples = static_cast<int>(std::ceil(width / bins_w));
  }
  return region;
}

// The weights of a sample's four pixels and where they are. Outside the map it takes nothing of pixel 0.
template <class T>
struct Weighted {
  T weight1, weight2, weight3, weight4;
  int64_t at1, at2, at3, at4;

  Weighted(const Sample<T>& row, const Sample<T>& column) {
    const bool inside = row.inside && column.inside;
    const int64_t low_row = inside ? row.low : 0, high_row = inside ? row.high : 0;
    const int64_t low_column = inside ? column.low : 0, high_column = inside ? column.high : 0;
    const T near_row = inside ? row.near : T(0.0f), rest_row = inside ? row.rest : T(0.0f);
    weight1 = near_row * column.near;
    weight2 = near_row * column.rest;
    weight3 = rest_row * column.near;
    weight4 = rest_row * column.rest;
    at1 = low_row + low_column;
    at2 = low_row + high_column;
    at3 = high_row + low_column;
    at4 = high_row + high_column;
  }
};

template <class T>
inline bool is_power_of_two(T count) {
  int exponent;
  return count > T(0.0f) && std::frexp(static_cast<double>(count), &exponent) == 0.5;
}

} // namespace build_torchvision
