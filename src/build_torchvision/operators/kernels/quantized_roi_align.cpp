// roi_align of quantized maps: the means are computed in float from the stored integers, then quantized again.
//
// As roi_align.cpp does it: blocks of channels, packed as float so that an integer is converted once and not once a
// sample. The integer types share one kernel; only reading the map and writing the output are theirs.

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "lanes.h"
#include "regions.h"

namespace build_torchvision {

namespace {

constexpr int kBlock = 32;
constexpr double kPackCost = 1.0, kPackedCost = 0.5, kPlaneCost = 3.5;

// A region's samples, and for every bin the sum of their weights, which is what a zero point adds to a sum.
struct Samples {
  std::vector<Sample<float>> rows, columns;
  std::vector<Weighted<float>> all;
  std::vector<float> weights;
  int64_t in_bin;
  float count;

  void place(const Region<float>& placed, const Pooling& pooling, int64_t height, int64_t width, int64_t row_step, int64_t column_step) {
    Region<float> region = placed;
    count = static_cast<float>(std::max(region.rows.samples * region.columns.samples, 1));
    region.rows.samples = std::max(region.rows.samples, 0);
    region.columns.samples = std::max(region.columns.samples, 0);
    const int grid_h = region.rows.samples, grid_w = region.columns.samples;
    rows.resize(grid_h * pooling.height);
    columns.resize(grid_w * pooling.width);
    place_samples(region.rows, height, row_step, rows.data());
    place_samples(region.columns, width, column_step, columns.data());
    in_bin = int64_t{grid_h} * grid_w;
    all.clear();
    weights.clear();
    for (int64_t bin = 0; bin < pooling.height * pooling.width; ++bin) {
      float sum = 0.0f;
      for (int i = 0; i < grid_h; ++i) {
        for (int j = 0; j < grid_w; ++j) {
          all.emplace_back(rows[bin / pooling.width * grid_h + i], columns[bin % pooling.width * grid_w + j]);
          const Weighted<float>& sample = all.back();
          sum += sample.weight1 + sample.weight2 + sample.weight3 + sample.weight4;
        }
      }
      weights.push_back(sum);
    }
  }
};

struct Scale {
  float scale, zero_point, inverse;
};

inline float mean_of(float sum, float weights, float count, const Scale& scale) {
  const float value = scale.scale * (sum - scale.zero_point * weights);
  return value / count;
}

// Rounds to the nearest integer and cuts off at T's limits; what is no number becomes the lowest.
template <class T>
inline T quantize(float value, const Scale& scale) {
  const float at = scale.zero_point + std::nearbyint(value * scale.inverse);
  if constexpr (sizeof(T) <= 2) {
    constexpr float lowest = std::numeric_limits<T>::min(), largest = std::numeric_limits<T>::max();
    const float inside = at > lowest ? (at < largest ? at : largest) : lowest;
    return static_cast<T>(static_cast<int32_t>(inside));
  } else {
    constexpr float end = 9223372036854775808.0f;
    constexpr int64_t lowest = std::numeric_limits<T>::min(), largest = std::numeric_limits<T>::max();
    const int64_t whole = at >= -end && at < end ? static_cast<int64_t>(at) : std::numeric_limits<int64_t>::min();
    return static_cast<T>(std::min(std::max(whole, lowest), largest));
  }
}

void pool_block(const float* packed, const Samples& samples, int64_t area, const Scale& scale, float* bins) {
  const Weighted<float>* sample = samples.all.data();
  for (int64_t bin = 0; bin < area; ++bin) {
    float sum[kBlock] = {};
    for (int64_t i = 0; i < samples.in_bin; ++i, ++sample) {
      const float *p1 = packed + sample->at1, *p2 = packed + sample->at2, *p3 = packed + sample->at3, *p4 = packed + sample->at4;
      const float w1 = sample->weight1, w2 = sample->weight2, w3 = sample->weight3, w4 = sample->weight4;
      for (int k = 0; k < kBlock; ++k) {
        sum[k] += w1 * p1[k] + w2 * p2[k] + w3 * p3[k] + w4 * p4[k];
      }
    }
    float* out = bins + bin * kBlock;
    for (int k = 0; k < kBlock; ++k) {
      out[k] = mean_of(sum[k], samples.weights[bin], samples.count, scale);
    }
  }
}

// Coordinates are dequantized in float.
template <class T>
Region<float> quantized_region(const T* roi, const Quantization& quantization, const Pooling& pooling) {
  float corners[5] = {};
  for (int i = 1; i < 5; ++i) {
    corners[i] = (static_cast<float>(roi[i]) - quantization.zero_point) * static_cast<float>(quantization.scale);
  }
  return align_region(corners, static_cast<float>(pooling.scale), pooling, !pooling.aligned);
}

} // namespace

// One image: upstream ignores the regions' image numbers, which quantization may not be able to hold.
template <class T>
void quantized_roi_align(const Threads& all, const Maps<const T>& input, const Quantization& input_quantization, const T* rois, const Quantization& rois_quantization, const Pooling& pooling, T* output) {
  const Scale scale{
      static_cast<float>(input_quantization.scale),
      static_cast<float>(input_quantization.zero_point),
      1.0f / static_cast<float>(input_quantization.scale)};
  const int64_t pixels = input.height * input.width, area = pooling.height * pooling.width, channels = input.channels;
  const auto region_of = [&](int64_t n) { return quantized_region(rois + n * 5, rois_quantization, pooling); };
  double taken = 0;
  for (int64_t n = 0; n < pooling.regions; ++n) {
    const Region<float> region = region_of(n);
    taken += static_cast<double>(area) * std::max(region.rows.samples, 0) * std::max(region.columns.samples, 0);
  }
  const double lanes = (channels + kBlock - 1) / kBlock * kBlock;
  const double by_blocks = static_cast<double>(pixels) * lanes * kPackCost + taken * lanes * kPackedCost;
  const double by_planes = taken * static_cast<double>(channels) * kPlaneCost;
  const Threads threads = worth(all, std::min(by_blocks, by_planes));
  if (by_blocks >= by_planes) {
    parallel(threads, pooling.regions, [&](int64_t begin, int64_t end) {
      Samples samples;
      for (int64_t n = begin; n < end; ++n) {
        samples.place(region_of(n), pooling, input.height, input.width, input.row_stride, input.column_stride);
        for (int64_t c = 0; c < channels; ++c) {
          const T* plane = input.data + c * input.channel_stride;
          const Weighted<float>* sample = samples.all.data();
          for (int64_t bin = 0; bin < area; ++bin) {
            float sum = 0.0f;
            for (int64_t i = 0; i < samples.in_bin; ++i, ++sample) {
              sum += sample->weight1 * static_cast<float>(plane[sample->at1]) +
                  sample->weight2 * static_cast<float>(plane[sample->at2]) +
                  sample->weight3 * static_cast<float>(plane[sample->at3]) +
                  sample->weight4 * static_cast<float>(plane[sample->at4]);
            }
            output[(n * channels + c) * area + bin] = quantize<T>(mean_of(sum, samples.weights[bin], samples.count, scale), scale);
          }
        }
      }
    });
    return;
  }
  const int64_t blocks = (channels + kBlock - 1) / kBlock, together = threads.count <= 1 ? 1 : blocks;
  Maps<const T> one = input;
  one.batch = 1;
  Buffer<float> packed(together * pixels * kBlock);
  for (int64_t first = 0; first < blocks; first += together) {
    const int64_t here = std::min(together, blocks - first);
    pack_blocks<kBlock>(threads, one, first, here, static_cast<float*>(packed));
    parallel(threads, here * pooling.regions, [&](int64_t begin, int64_t end) {
      Buffer<float> bins(area * kBlock), planes(area * kBlock);
      Samples samples;
      for (int64_t at = begin; at < end; ++at) {
        const int64_t block = first + at / pooling.regions, n = at % pooling.regions, channel = block * kBlock;
        samples.place(region_of(n), pooling, input.height, input.width, input.width * kBlock, kBlock);
        pool_block(packed + (block - first) * pixels * kBlock, samples, area, scale, bins);
        const int64_t count = std::min<int64_t>(kBlock, channels - channel);
        unpack<kBlock>(static_cast<float*>(bins), area, count, static_cast<float*>(planes), area);
        T* out = output + (n * channels + channel) * area;
        const float* means = planes;
        for (int64_t i = 0; i < count * area; ++i) {
          out[i] = quantize<T>(means[i], scale);
        }
      }
    });
  }
}

#define INSTANTIATE(T)                                                                                     \
  template void quantized_roi_align<T>(                                                                    \
      const Threads&, const Maps<const T>&, const Quantization&, const T*, const Quantization&, const Pooling&, T*);
INSTANTIATE(uint8_t)
INSTANTIATE(int8_t)
INSTANTIATE(int16_t)
INSTANTIATE(int32_t)
INSTANTIATE(int64_t)
#undef INSTANTIATE

} // namespace build_torchvision
