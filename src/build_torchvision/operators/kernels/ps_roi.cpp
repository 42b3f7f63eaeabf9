// ps_roi_align and ps_roi_pool: every bin of a region reads a channel of its own.
//
// So a channel's plane is read by one bin of every region alone. Planes are gone through bin by bin: where the regions'
// samples lie is worked out once for the bin and serves all its planes, a few planes at a time (their sums are
// independent of each other and hide each other's latency), and a plane stays in cache while all regions read it.
// Upstream goes through all planes for every region, and works every place out again for every channel.

#include <cmath>
#include <memory>
#include <vector>

#include "kernels.h"
#include "lanes.h"
#include "regions.h"

namespace build_torchvision {

namespace {

constexpr int kPlanes = 4;             // planes whose sums are computed together
constexpr int64_t kSamples = 1 << 13;  // places that are kept at a time, or one region's

// The channel of output channel `c` and bin: the bins' planes of one output channel lie next to each other.
inline int64_t channel_of(int64_t c, int64_t area, int64_t bin) {
  return c * area + bin;
}

inline void write_channels(int64_t regions, int64_t channels, int32_t* mapping) {
  for (int64_t n = 0; n < regions; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      mapping[n * channels + c] = static_cast<int32_t>(c);
    }
  }
}

inline bool is_own_mapping(int64_t regions, int64_t channels, const int32_t* mapping) {
  int32_t different = 0;
  for (int64_t n = 0; n < regions; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      different |= mapping[n * channels + c] ^ static_cast<int32_t>(c);
    }
  }
  return different == 0;
}

// --- ps_roi_align ---

// All samples of one bin, region after region; those outside the map are left out, for they add nothing.
template <class T>
struct Places {
  std::unique_ptr<Buffer<Weighted<T>>> samples;
  int64_t room = 0;
  std::vector<int64_t> ends;

  // Room for `count` samples; what was there is lost.
  Weighted<T>* clear(int64_t count) {
    ends.clear();
    if (count > room) {
      room = count;
      samples = std::make_unique<Buffer<Weighted<T>>>(count);
    }
    return *samples;
  }
};

template <class T>
class Regions {
 public:
  Regions(const T* rois, T scale, const Pooling& pooling, int64_t height, int64_t width, int64_t row_step, int64_t column_step)
      : pooling_(pooling) {
    const Pooling centred{pooling.regions, pooling.scale, pooling.height, pooling.width, pooling.sampling_ratio, true};
    regions_.reserve(pooling.regions);
    counts_.reserve(pooling.regions);
    exact_.reserve(pooling.regions);
    starts_.reserve(pooling.regions);
    for (int64_t n = 0; n < pooling.regions; ++n) {
      Region<T> region = align_region(rois + n * 5, scale, centred, false);
      counts_.push_back(static_cast<T>(static_cast<float>(region.rows.samples * region.columns.samples)));
      exact_.push_back(is_power_of_two(counts_.back()));
      region.rows.samples = std::max(region.rows.samples, 0);
      region.columns.samples = std::max(region.columns.samples, 0);
      starts_.push_back(axes_.size());
      axes_.resize(axes_.size() + region.rows.samples * pooling.height + region.columns.samples * pooling.width);
      Sample<T>* rows = axes_.data() + starts_.back();
      place_samples(region.rows, height, row_step, rows);
      place_samples(region.columns, width, column_step, rows + region.rows.samples * pooling.height);
      regions_.push_back(region);
    }
  }

  int64_t image(int64_t n) const {
    return regions_[n].image;
  }
  T count(int64_t n) const {
    return counts_[n];
  }
  // Whether a product with 1 / count is the quotient.
  bool is_exact(int64_t n) const {
    return exact_[n];
  }

  // How many samples a bin has in region n, those outside the map included.
  int64_t samples(int64_t n) const {
    return int64_t{regions_[n].rows.samples} * regions_[n].columns.samples;
  }

  // The region after the last one whose samples are kept together with those of `first`.
  int64_t group_end(int64_t first) const {
    int64_t n = first + 1;
    for (int64_t sum = samples(first); n < pooling_.regions && sum + samples(n) <= kSamples; ++n) {
      sum += samples(n);
    }
    return n;
  }

  // Collects the places of a bin for regions [first, end).
  void collect(int64_t bin, int64_t first, int64_t end, Places<T>& places) const {
    int64_t most = 1;
    for (int64_t n = first; n < end; ++n) {
      most += samples(n);
    }
    Weighted<T>* const all = places.clear(most);
    Weighted<T>* next = all;
    for (int64_t n = first; n < end; ++n) {
      const Region<T>& region = regions_[n];
      const Sample<T>* rows = axes_.data() + starts_[n];
      const Sample<T>* columns = rows + region.rows.samples * pooling_.height;
      rows += bin / pooling_.width * region.rows.samples;
      columns += bin % pooling_.width * region.columns.samples;
      for (int i = 0; i < region.rows.samples; ++i) {
        for (int j = 0; j < region.columns.samples; ++j) {
          *next = Weighted<T>(rows[i], columns[j]);
          next += rows[i].inside && columns[j].inside ? 1 : 0;
        }
      }
      places.ends.push_back(next - all);
    }
  }

 private:
  const Pooling& pooling_;
  std::vector<Region<T>> regions_;
  std::vector<T> counts_;
  std::vector<char> exact_;
  std::vector<int64_t> starts_;
  std::vector<Sample<T>> axes_;
};

template <class T, int Planes>
inline void align_planes(
    const Weighted<T>* sample,
    const Weighted<T>* end,
    const T* const* planes,
    T count,
    T* out,
    int64_t out_step) {
  T sums[Planes];
  for (int k = 0; k < Planes; ++k) {
    sums[k] = T(0.0f);
  }
  for (; sample != end; ++sample) {
    const T w1 = sample->weight1, w2 = sample->weight2, w3 = sample->weight3, w4 = sample->weight4;
    for (int k = 0; k < Planes; ++k) {
      const T* p = planes[k];
      const T value = w1 * p[sample->at1] + w2 * p[sample->at2] + w3 * p[sample->at3] + w4 * p[sample->at4];
      sums[k] += value;
    }
  }
  for (int k = 0; k < Planes; ++k) {
    out[k * out_step] = sums[k] / count;
  }
}

template <class T, int Planes>
inline void spread_planes(
    const Weighted<T>* sample,
    const Weighted<T>* end,
    T* const* planes,
    const T* grads,
    T count,
    bool exact) {
  const T reciprocal = T(1.0f) / count;
  for (; sample != end; ++sample) {
    T shares[4][Planes];
    for (int k = 0; k < Planes; ++k) {
      shares[0][k] = grads[k] * sample->weight1;
      shares[1][k] = grads[k] * sample->weight2;
      shares[2][k] = grads[k] * sample->weight3;
      shares[3][k] = grads[k] * sample->weight4;
    }
    if (exact) {
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < Planes; ++k) {
          shares[i][k] = shares[i][k] * reciprocal;
        }
      }
    } else {
      for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < Planes; ++k) {
          shares[i][k] = shares[i][k] / count;
        }
      }
    }
    for (int k = 0; k < Planes; ++k) {
      planes[k][sample->at1] += shares[0][k];
      planes[k][sample->at2] += shares[1][k];
      planes[k][sample->at3] += shares[2][k];
      planes[k][sample->at4] += shares[3][k];
    }
  }
}

// --- ps_roi_pool ---

struct Window {
  int top, bottom, left, right;
};

// Where the bins of one axis begin and end in every region: [region * bins + bin].
//
// `last` is what edges are cut off at: upstream leaves out the last row and column in the forward direction and not in
// the backward one, and rounds a double's coordinate to float there; so both are kept.
struct Edges {
  std::vector<int> begins, ends;

  template <class T>
  Edges(const T* rois, int64_t regions, T scale, int axis, int64_t bins, int64_t size, bool backward) {
    const int last = static_cast<int>(size) - (backward ? 0 : 1);
    const auto cut = [&](int at) { return std::min(std::max(at, 0), last); };
    begins.reserve(regions * bins);
    ends.reserve(regions * bins);
    for (int64_t n = 0; n < regions; ++n) {
      int corners[2];
      for (int i = 0; i < 2; ++i) {
        const T at = rois[n * 5 + 1 + axis + 2 * i] * scale;
        corners[i] = static_cast<int>(backward ? std::round(static_cast<float>(at)) : std::round(at));
      }
      const int pixels = std::max(corners[1] - corners[0], 1);
      const T bin = static_cast<T>(static_cast<float>(pixels)) / static_cast<T>(static_cast<float>(bins));
      for (int p = 0; p < bins; ++p) {
        const T begin = static_cast<T>(static_cast<float>(p)) * bin, end = static_cast<T>(static_cast<float>(p + 1)) * bin;
        begins.push_back(cut(static_cast<int>(std::floor(begin)) + corners[0]));
        ends.push_back(cut(static_cast<int>(std::ceil(end)) + corners[0]));
      }
    }
  }
};

template <class T>
struct Windows {
  Edges rows, columns;
  int64_t bins_h, bins_w;

  Windows(const T* rois, const Pooling& pooling, int64_t height, int64_t width, bool backward)
      : rows(rois, pooling.regions, static_cast<T>(pooling.scale), 1, pooling.height, height, backward),
        columns(rois, pooling.regions, static_cast<T>(pooling.scale), 0, pooling.width, width, backward),
        bins_h(pooling.height),
        bins_w(pooling.width) {}

  Window at(int64_t n, int64_t bin) const {
    const int64_t row = n * bins_h + bin / bins_w, column = n * bins_w + bin % bins_w;
    return {rows.begins[row], rows.ends[row], columns.begins[column], columns.ends[column]};
  }
};

// Adds a share to the pixels of a window, in some planes.
template <class T, int Planes>
inline void spread_window(const Window& window, int64_t width, T* const* planes, const T* shares) {
  for (int64_t h = window.top; h < window.bottom; ++h) {
    // Windows are a few pixels wide: the planes are what there is to do at once.
#pragma clang loop vectorize(disable) unroll(disable)
    for (int64_t at = h * width + window.left; at < h * width + window.right; ++at) {
      for (int k = 0; k < Planes; ++k) {
        planes[k][at] += shares[k];
      }
    }
  }
}

template <class T, int Planes>
inline void mean_planes(const Window& window, int64_t width, const T* const* planes, T* out, int64_t out_step) {
  const bool empty = window.bottom <= window.top || window.right <= window.left;
  T sums[Planes];
  for (int k = 0; k < Planes; ++k) {
    sums[k] = T(0.0f);
  }
  for (int64_t h = window.top; h < window.bottom; ++h) {
    for (int64_t at = h * width + window.left; at < h * width + window.right; ++at) {
      for (int k = 0; k < Planes; ++k) {
        sums[k] += planes[k][at];
      }
    }
  }
  const T area = static_cast<T>(static_cast<float>((window.bottom - window.top) * (window.right - window.left)));
  for (int k = 0; k < Planes; ++k) {
    out[k * out_step] = empty ? T(0.0f) : sums[k] / area;
  }
}

// Calls body(c, Width<planes>) for output channels in groups of kPlanes, and in smaller ones for the rest.
template <class Body>
inline void by_planes(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + kPlanes <= channels; c += kPlanes) {
    body(c, Width<kPlanes>{});
  }
  for (; c + 2 <= channels; c += 2) {
    body(c, Width<2>{});
  }
  if (c < channels) {
    body(c, Width<1>{});
  }
}

// Gradients are contiguous, and start at 0: a bin's planes right before they are added to, while they are in cache.
template <class T>
void clear_plane(const Maps<T>& maps, int64_t image, int64_t channel) {
  T* plane = maps.data + image * maps.batch_stride + channel * maps.channel_stride;
  std::fill(plane, plane + maps.height * maps.width, T(0.0f));
}
template <class T>
void clear_bin(const Maps<T>& maps, int64_t channels, int64_t area, int64_t bin) {
  for (int64_t image = 0; image < maps.batch; ++image) {
    for (int64_t c = 0; c < channels; ++c) {
      clear_plane(maps, image, channel_of(c, area, bin));
    }
  }
}
template <class T>
void clear_channels(const Maps<T>& maps, int64_t first) {
  for (int64_t image = 0; image < maps.batch; ++image) {
    for (int64_t channel = first; channel < maps.channels; ++channel) {
      clear_plane(maps, image, channel);
    }
  }
}

// The threads that `cost` nanoseconds a bin, channel and region are worth.
inline Threads worth_bins(const Threads& threads, const Pooling& pooling, int64_t channels, double cost) {
  const double bins = static_cast<double>(pooling.height) * static_cast<double>(pooling.width);
  return worth(threads, bins * static_cast<double>(pooling.regions) * static_cast<double>(channels) * cost);
}

// The planes of output channels c, c + 1, ... for one bin of a region in `image`.
template <class T, int Planes>
struct PlanesOf {
  T* planes[Planes];

  PlanesOf(const Maps<T>& maps, int64_t image, int64_t c, int64_t area, int64_t bin) {
    for (int k = 0; k < Planes; ++k) {
      planes[k] = maps.data + image * maps.batch_stride + channel_of(c + k, area, bin) * maps.channel_stride;
    }
  }
};

} // namespace

template <class T>
void ps_roi_align(const Threads& threads, const Maps<const T>& input, const T* rois, const Pooling& pooling, T* output, int32_t* channel_mapping) {
  const int64_t area = pooling.height * pooling.width, channels = input.channels / area;
  write_channels(pooling.regions, channels * area, channel_mapping);
  const Regions<T> regions(rois, static_cast<T>(pooling.scale), pooling, input.height, input.width, input.row_stride, input.column_stride);
  parallel(worth_bins(threads, pooling, channels, 16), area, [&](int64_t begin, int64_t end) {
    Places<T> places;
    for (int64_t bin = begin; bin < end; ++bin) {
      for (int64_t first = 0, after; first < pooling.regions; first = after) {
        after = regions.group_end(first);
        regions.collect(bin, first, after, places);
        by_planes(channels, [&](int64_t c, auto width) {
          constexpr int Planes = decltype(width)::value;
          const Weighted<T>* sample = static_cast<Weighted<T>*>(*places.samples);
          for (int64_t n = first; n < after; ++n) {
            const Weighted<T>* stop = static_cast<Weighted<T>*>(*places.samples) + places.ends[n - first];
            const PlanesOf<const T, Planes> from(input, regions.image(n), c, area, bin);
            align_planes<T, Planes>(sample, stop, from.planes, regions.count(n), output + (n * channels + c) * area + bin, area);
            sample = stop;
          }
        });
      }
    }
  });
}

template <class T>
void ps_roi_align_backward(const Threads& threads, const Maps<const T>& grads, const T* rois, const int32_t* channel_mapping, const Pooling& pooling, const Maps<T>& grad_input) {
  const int64_t area = pooling.height * pooling.width, channels = grad_input.channels / area;
  const T* grad = grads.data;
  const Regions<T> regions(rois, static_cast<T>(pooling.scale), pooling, grad_input.height, grad_input.width, grad_input.width, 1);
  if (!is_own_mapping(pooling.regions, channels * area, channel_mapping)) {
    clear_channels(grad_input, 0);
    for (int64_t n = 0; n < pooling.regions; ++n) {
      for (int64_t at = 0; at < channels * area; ++at) {
        Places<T> places;
        regions.collect(at % area, n, n + 1, places);
        T* plane = grad_input.data + regions.image(n) * grad_input.batch_stride + channel_mapping[n * channels * area + at] * grad_input.channel_stride;
        spread_planes<T, 1>(static_cast<Weighted<T>*>(*places.samples), static_cast<Weighted<T>*>(*places.samples) + places.ends[0], &plane, grad + n * channels * area + at, regions.count(n), regions.is_exact(n));
      }
    }
    return;
  }
  clear_channels(grad_input, channels * area);
  parallel(worth_bins(threads, pooling, channels, 16), area, [&](int64_t begin, int64_t end) {
    Places<T> places;
    for (int64_t bin = begin; bin < end; ++bin) {
      clear_bin(grad_input, channels, area, bin);
      for (int64_t first = 0, after; first < pooling.regions; first = after) {
        after = regions.group_end(first);
        regions.collect(bin, first, after, places);
        by_planes(channels, [&](int64_t c, auto width) {
          constexpr int Planes = decltype(width)::value;
          const Weighted<T>* sample = static_cast<Weighted<T>*>(*places.samples);
          for (int64_t n = first; n < after; ++n) {
            const Weighted<T>* stop = static_cast<Weighted<T>*>(*places.samples) + places.ends[n - first];
            const PlanesOf<T, Planes> to(grad_input, regions.image(n), c, area, bin);
            T grads[Planes];
            for (int k = 0; k < Planes; ++k) {
              grads[k] = grad[(n * channels + c + k) * area + bin];
            }
            spread_planes<T, Planes>(sample, stop, to.planes, grads, regions.count(n), regions.is_exact(n));
            sample = stop;
          }
        });
      }
    }
  });
}

template <class T>
void ps_roi_pool(const Threads& threads, const Maps<const T>& input, const T* rois, const Pooling& pooling, T* output, int32_t* channel_mapping) {
  const int64_t area = pooling.height * pooling.width, channels = input.channels / area;
  write_channels(pooling.regions, channels * area, channel_mapping);
  const Windows<T> windows(rois, pooling, input.height, input.width, false);
  parallel(worth_bins(threads, pooling, channels, 8), area, [&](int64_t begin, int64_t end) {
    for (int64_t bin = begin; bin < end; ++bin) {
      by_planes(channels, [&](int64_t c, auto width) {
        constexpr int Planes = decltype(width)::value;
        for (int64_t n = 0; n < pooling.regions; ++n) {
          const PlanesOf<const T, Planes> from(input, static_cast<int>(rois[n * 5]), c, area, bin);
          mean_planes<T, Planes>(windows.at(n, bin), input.width, from.planes, output + (n * channels + c) * area + bin, area);
        }
      });
    }
  });
}

template <class T>
void ps_roi_pool_backward(const Threads& threads, const Maps<const T>& grads, const T* rois, const int32_t* channel_mapping, const Pooling& pooling, const Maps<T>& grad_input) {
  const int64_t area = pooling.height * pooling.width, channels = grad_input.channels / area;
  const T* grad = grads.data;
  const Windows<T> windows(rois, pooling, grad_input.height, grad_input.width, true);
  const auto pixels_of = [](const Window& window) {
    return static_cast<T>(static_cast<float>((window.bottom - window.top) * (window.right - window.left)));
  };
  if (!is_own_mapping(pooling.regions, channels * area, channel_mapping)) {
    clear_channels(grad_input, 0);
    for (int64_t n = 0; n < pooling.regions; ++n) {
      for (int64_t bin = 0; bin < area; ++bin) {
        const Window window = windows.at(n, bin);
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t at = (n * channels + c) * area + bin;
          T* plane = grad_input.data + static_cast<int>(rois[n * 5]) * grad_input.batch_stride + channel_mapping[at] * grad_input.channel_stride;
          if (window.bottom > window.top && window.right > window.left) {
            const T share = grad[at] / pixels_of(window);
            spread_window<T, 1>(window, grad_input.width, &plane, &share);
          }
        }
      }
    }
    return;
  }
  clear_channels(grad_input, channels * area);
  parallel(worth_bins(threads, pooling, channels, 8), area, [&](int64_t begin, int64_t end) {
    for (int64_t bin = begin; bin < end; ++bin) {
      clear_bin(grad_input, channels, area, bin);
      by_planes(channels, [&](int64_t c, auto width) {
        constexpr int Planes = decltype(width)::value;
        for (int64_t n = 0; n < pooling.regions; ++n) {
          const Window window = windows.at(n, bin);
          if (window.bottom <= window.top || window.right <= window.left) {
            continue;
          }
          const PlanesOf<T, Planes> to(grad_input, static_cast<int>(rois[n * 5]), c, area, bin);
          T shares[Planes];
          for (int k = 0; k < Planes; ++k) {
            shares[k] = grad[(n * channels + c + k) * area + bin] / pixels_of(window);
          }
          spread_window<T, Planes>(window, grad_input.width, to.planes, shares);
        }
      });
    }
  });
}

#define INSTANTIATE(T)                                                                                                \
  template void ps_roi_align<T>(const Threads&, const Maps<const T>&, const T*, const Pooling&, T*, int32_t*);        \
  template void ps_roi_align_backward<T>(                                                                             \
      const Threads&, const Maps<const T>&, const T*, const int32_t*, const Pooling&, const Maps<T>&);                            \
  template void ps_roi_pool<T>(const Threads&, const Maps<const T>&, const T*, const Pooling&, T*, int32_t*);         \
  template void ps_roi_pool_backward<T>(                                                                              \
      const Threads&, const Maps<const T>&, const T*, const int32_t*, const Pooling&, const Maps<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Half)
#undef INSTANTIATE

} // namespace build_torchvision
