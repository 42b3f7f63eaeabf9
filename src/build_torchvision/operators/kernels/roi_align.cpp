// roi_align and its quantized form: every bin is the mean of bilinear samples.
//
// Forward: a block of channels is packed (lanes.h) once, then every region adds up its samples for a whole block of
// channels in registers: the inner loop is four loads, four products and four sums a vector, without a branch or an
// address to compute. Where there is too little to sample to pay for packing, planes are read as they are.
// Backward: a block of channels of the gradient is collected in the packed layout and unpacked once at the end. A
// thread owns whole blocks, so no two threads write the same line, and the order of additions is the region's.
// Per output the order of operations is upstream's: the bits are the same.

#include <vector>

#include "kernels.h"
#include "lanes.h"
#include "regions.h"

namespace build_torchvision {

namespace {

// What packing costs an element of the map, and what sampling costs an element packed or from planes, in about
// nanoseconds (measured with AVX2).
constexpr double kPackCost = 0.6, kPackedCost = 0.5, kPlaneCost = 3.5;

// Everything that does not change from channel to channel, one region at a time.
template <class T>
struct Plan {
  std::vector<Sample<T>> rows, columns;
  Region<T> region;

  void prepare(const Region<T>& placed, int64_t height, int64_t width, int64_t row_step, int64_t column_step) {
    region = placed;
    region.rows.samples = std::max(region.rows.samples, 0);
    region.columns.samples = std::max(region.columns.samples, 0);
    rows.resize(region.rows.samples * region.rows.bins);
    columns.resize(region.columns.samples * region.columns.bins);
    place_samples(region.rows, height, row_step, rows.data());
    place_samples(region.columns, width, column_step, columns.data());
  }
};

// How many samples all regions take of one channel.
template <class T>
double count_samples(const T* rois, T scale, const Pooling& pooling) {
  const double bins = static_cast<double>(pooling.height) * static_cast<double>(pooling.width);
  if (pooling.sampling_ratio > 0) {
    return bins * static_cast<double>(pooling.regions) * static_cast<double>(pooling.sampling_ratio) *
        static_cast<double>(pooling.sampling_ratio);
  }
  double samples = 0;
  for (int64_t i = 0; i < pooling.regions; ++i) {
    const Region<T> region = align_region(rois + i * 5, scale, pooling, !pooling.aligned);
    samples += bins * std::max(region.rows.samples, 0) * std::max(region.columns.samples, 0);
  }
  return samples;
}

// How a sum becomes a mean: by a division, or by a product where 1 / count is exact, which has the division's bits.
template <class T>
struct Mean {
  T count, reciprocal;
  bool exact;

  explicit Mean(int samples)
      : count(static_cast<float>(samples)), reciprocal(T(1.0f) / count), exact(is_power_of_two(count)) {}
};

template <class T>
int sample_count(const Region<T>& region) {
  return std::max(region.rows.samples * region.columns.samples, 1);
}

// The mean of a bin's samples, a block of channels at a time.
template <class T, int Lanes>
inline void sum_bin(
    const T* map,
    const Sample<T>* rows,
    int row_count,
    const Sample<T>* columns,
    int column_count,
    const Mean<T>& mean,
    T* out) {
  using Row = typename Together<T>::type;
  constexpr int kRow = sizeof(Row) / sizeof(T), kRows = Lanes / kRow;
  Row sum[kRows];
  for (int k = 0; k < kRows; ++k) {
    sum[k] = Row();
  }
  for (int i = 0; i < row_count; ++i) {
    for (int j = 0; j < column_count; ++j) {
      const Weighted<T> sample(rows[i], columns[j]);
      const T *p1 = map + sample.at1, *p2 = map + sample.at2, *p3 = map + sample.at3, *p4 = map + sample.at4;
      const T w1 = sample.weight1, w2 = sample.weight2, w3 = sample.weight3, w4 = sample.weight4;
      INDEPENDENT_LANES
      for (int k = 0; k < kRows; ++k) {
        const int at = k * kRow;
        sum[k] += w1 * row<Row>(p1 + at) + w2 * row<Row>(p2 + at) + w3 * row<Row>(p3 + at) + w4 * row<Row>(p4 + at);
      }
    }
  }
  if (mean.exact) {
    INDEPENDENT_LANES
    for (int k = 0; k < kRows; ++k) {
      set_row(out + k * kRow, sum[k] * mean.reciprocal);
    }
  } else {
    INDEPENDENT_LANES
    for (int k = 0; k < kRows; ++k) {
      set_row(out + k * kRow, sum[k] / mean.count);
    }
  }
}

// The output of one region and block: bins of Lanes sums, then transposed to a plane a channel, some rows at a time.
template <class T, int Lanes>
void pool_region(const T* packed, const Plan<T>& plan, const Pooling& pooling, int64_t channels, T* bins, T* out) {
  const Mean<T> mean(sample_count(plan.region));
  const int grid_h = plan.region.rows.samples, grid_w = plan.region.columns.samples;
  for (int64_t ph = 0; ph < pooling.height; ++ph) {
    for (int64_t pw = 0; pw < pooling.width; ++pw) {
      sum_bin<T, Lanes>(
          packed,
          plan.rows.data() + ph * grid_h,
          grid_h,
          plan.columns.data() + pw * grid_w,
          grid_w,
          mean,
          bins + (ph * pooling.width + pw) * Lanes);
    }
  }
  const int64_t area = pooling.height * pooling.width;
  unpack<Lanes>(bins, area, channels, out, area);
}

template <class T>
void roi_align_packed(const Threads& threads, const Maps<const T>& input, const T* rois, T scale, const Pooling& pooling, T* output) {
  const int64_t pixels = input.height * input.width, area = pooling.height * pooling.width;
  const int64_t channels = input.channels;
  with_lanes<T>(channels, [&](auto width) {
    constexpr int Lanes = decltype(width)::value;
    const int64_t blocks = (channels + Lanes - 1) / Lanes;
    // One thread packs and samples block after block, in cache; several share one copy of the whole map.
    const int64_t together = threads.count <= 1 ? 1 : blocks;
    Buffer<T> packed(together * input.batch * pixels * Lanes);
    for (int64_t first = 0; first < blocks; first += together) {
      const int64_t here = std::min(together, blocks - first);
      pack_blocks<Lanes>(threads, input, first, here, static_cast<T*>(packed));
      parallel(threads, here * pooling.regions, [&](int64_t begin, int64_t end) {
        Buffer<T> bins(area * Lanes);
        Plan<T> plan;
        for (int64_t at = begin; at < end; ++at) {
          const int64_t block = first + at / pooling.regions, n = at % pooling.regions;
          const int64_t channel = block * Lanes;
          plan.prepare(align_region(rois + n * 5, scale, pooling, !pooling.aligned), input.height, input.width, input.width * Lanes, Lanes);
          pool_region<T, Lanes>(
              packed + ((block - first) * input.batch + plan.region.image) * pixels * Lanes,
              plan,
              pooling,
              std::min<int64_t>(Lanes, channels - channel),
              bins,
              output + (n * channels + channel) * area);
        }
      });
    }
  });
}

template <class T>
void roi_align_planes(const Threads& threads, const Maps<const T>& input, const T* rois, T scale, const Pooling& pooling, T* output) {
  const int64_t area = pooling.height * pooling.width;
  parallel(threads, pooling.regions, [&](int64_t begin, int64_t end) {
    Plan<T> plan;
    std::vector<Weighted<T>> samples;
    for (int64_t n = begin; n < end; ++n) {
      plan.prepare(align_region(rois + n * 5, scale, pooling, !pooling.aligned), input.height, input.width, input.row_stride, input.column_stride);
      const int grid_h = plan.region.rows.samples, grid_w = plan.region.columns.samples;
      const T count = T(static_cast<float>(sample_count(plan.region)));
      samples.clear();
      for (int64_t bin = 0; bin < area; ++bin) {
        for (int i = 0; i < grid_h; ++i) {
          for (int j = 0; j < grid_w; ++j) {
            samples.emplace_back(plan.rows[bin / pooling.width * grid_h + i], plan.columns[bin % pooling.width * grid_w + j]);
          }
        }
      }
      for (int64_t c = 0; c < input.channels; ++c) {
        const T* plane = input.data + plan.region.image * input.batch_stride + c * input.channel_stride;
        T* out = output + (n * input.channels + c) * area;
        const Weighted<T>* sample = samples.data();
        for (int64_t bin = 0; bin < area; ++bin) {
          T sum = T(0.0f);
          for (int64_t i = 0; i < int64_t{grid_h} * grid_w; ++i, ++sample) {
            sum += sample->weight1 * plane[sample->at1] + sample->weight2 * plane[sample->at2] +
                sample->weight3 * plane[sample->at3] + sample->weight4 * plane[sample->at4];
          }
          out[bin] = sum / count;
        }
      }
    }
  });
}

// Adds gradient * weight / count to a pixel's block of channels.
template <class T, int Lanes>
inline void add_to(T* pixel, const T* grad, T weight, T count) {
  INDEPENDENT_LANES
  for (int k = 0; k < Lanes; ++k) {
    const T share = grad[k] * weight / count;
    pixel[k] += share;
  }
}

// The same where 1 / count is exact: a product has then the division's bits.
template <class T, int Lanes>
inline void add_exact(T* pixel, const T* grad, T weight, T reciprocal) {
  INDEPENDENT_LANES
  for (int k = 0; k < Lanes; ++k) {
    const T share = grad[k] * weight * reciprocal;
    pixel[k] += share;
  }
}

} // namespace

template <class T>
void roi_align(const Threads& threads, const Maps<const T>& input, const T* rois, const Pooling& pooling, T* output) {
  const T scale = static_cast<T>(pooling.scale);
  const double samples = count_samples(rois, scale, pooling), channels = static_cast<double>(input.channels);
  const double map = static_cast<double>(input.batch) * static_cast<double>(input.height) * static_cast<double>(input.width);
  const double lanes = std::max(channels, 16.0);
  const double packed = map * lanes * kPackCost + samples * lanes * kPackedCost, planes = samples * channels * kPlaneCost;
  if (packed < planes) {
    roi_align_packed(worth(threads, packed), input, rois, scale, pooling, output);
  } else {
    roi_align_planes(worth(threads, planes), input, rois, scale, pooling, output);
  }
}

template <class T>
void roi_align_backward(const Threads& all, const Maps<const T>& grad, const T* rois, const Pooling& pooling, const Maps<T>& grad_input) {
  const T scale = static_cast<T>(pooling.scale);
  const int64_t pixels = grad_input.height * grad_input.width, area = pooling.height * pooling.width;
  const int64_t channels = grad_input.channels;
  const double map = static_cast<double>(grad_input.batch) * static_cast<double>(pixels);
  const Threads threads = worth(all, static_cast<double>(channels) * (map + count_samples(rois, scale, pooling) * kPackedCost));
  // Narrower blocks where there are too few of them for all threads.
  const int64_t share = threads.count <= 1 ? channels : (channels * grad_input.batch + threads.count - 1) / threads.count;
  with_lanes<T>(std::min(channels, share), [&](auto width) {
    constexpr int Lanes = decltype(width)::value;
    const int64_t blocks = (channels + Lanes - 1) / Lanes;
    parallel(threads, grad_input.batch * blocks, [&](int64_t begin, int64_t end) {
      Buffer<T> packed(pixels * Lanes), bins(area * Lanes);
      Plan<T> plan;
      for (int64_t at = begin; at < end; ++at) {
        const int64_t image = at / blocks, channel = at % blocks * Lanes;
        const int64_t here = std::min<int64_t>(Lanes, channels - channel);
        std::fill(static_cast<T*>(packed), packed + pixels * Lanes, T(0.0f));
        for (int64_t n = 0; n < pooling.regions; ++n) {
          const Region<T> region = align_region(rois + n * 5, scale, pooling, !pooling.aligned);
          if (region.image != image) {
            continue;
          }
          plan.prepare(region, grad_input.height, grad_input.width, grad_input.width * Lanes, Lanes);
          const T* from = grad.data + n * grad.batch_stride + channel * grad.channel_stride;
          if (grad.row_stride == grad.width * grad.column_stride) {
            pack<Lanes>(from, grad.channel_stride, grad.column_stride, area, here, static_cast<T*>(bins));
          } else {
            for (int64_t ph = 0; ph < pooling.height; ++ph) {
              pack<Lanes>(from + ph * grad.row_stride, grad.channel_stride, grad.column_stride, pooling.width, here, bins + ph * pooling.width * Lanes);
            }
          }
          const int grid_h = plan.region.rows.samples, grid_w = plan.region.columns.samples;
          const T count = T(static_cast<float>(region.rows.samples * region.columns.samples));
          const bool exact = is_power_of_two(count);
          const T reciprocal = T(1.0f) / count;
          for (int64_t bin = 0; bin < area; ++bin) {
            const Sample<T>* rows = plan.rows.data() + bin / pooling.width * grid_h;
            const Sample<T>* columns = plan.columns.data() + bin % pooling.width * grid_w;
            const T* g = bins + bin * Lanes;
            for (int i = 0; i < grid_h; ++i) {
              for (int j = 0; j < grid_w; ++j) {
                if (!rows[i].inside || !columns[j].inside) {
                  continue;
                }
                const Weighted<T> sample(rows[i], columns[j]);
                if (exact) {
                  add_exact<T, Lanes>(packed + sample.at1, g, sample.weight1, reciprocal);
                  add_exact<T, Lanes>(packed + sample.at2, g, sample.weight2, reciprocal);
                  add_exact<T, Lanes>(packed + sample.at3, g, sample.weight3, reciprocal);
                  add_exact<T, Lanes>(packed + sample.at4, g, sample.weight4, reciprocal);
                } else {
                  add_to<T, Lanes>(packed + sample.at1, g, sample.weight1, count);
                  add_to<T, Lanes>(packed + sample.at2, g, sample.weight2, count);
                  add_to<T, Lanes>(packed + sample.at3, g, sample.weight3, count);
                  add_to<T, Lanes>(packed + sample.at4, g, sample.weight4, count);
                }
              }
            }
          }
        }
        unpack<Lanes>(static_cast<T*>(packed), pixels, here, grad_input.data + (image * channels + channel) * pixels, pixels);
      }
    });
  });
}

#define INSTANTIATE(T)                                                                                              \
  template void roi_align<T>(const Threads&, const Maps<const T>&, const T*, const Pooling&, T*);                   \
  template void roi_align_backward<T>(const Threads&, const Maps<const T>&, const T*, const Pooling&, const Maps<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Half)
#undef INSTANTIATE

} // namespace build_torchvision
