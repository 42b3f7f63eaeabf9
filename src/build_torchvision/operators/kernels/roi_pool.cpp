// roi_pool: every bin is the largest of its pixels, and where it is.
//
// Forward: a block of channels is packed (lanes.h), then a pixel is compared for a whole block of channels at once; the
// maxima and their places stay in registers. Backward adds each gradient where its maximum was: a plane at a time, so
// that the plane stays in cache, where upstream goes through all planes for every region.

#include <cfloat>
#include <cmath>

#include "kernels.h"
#include "lanes.h"

namespace build_torchvision {

namespace {

constexpr int64_t kCachedBytes = 1 << 19;
// What a pixel of a bin costs, and a gradient that is added, in about nanoseconds.
constexpr double kPixelCost = 1.0, kAddCost = 2.0;

struct Window {
  int64_t top, bottom, left, right;
};

// A region's bins: whole pixels, at least one pixel high and wide, cut off at the map's edges.
template <class T>
struct Bins {
  int64_t image;
  int left, top;
  T height, width;

  Bins(const T* roi, T scale, const Pooling& pooling) {
    image = static_cast<int>(roi[0]);
    left = static_cast<int>(std::round(roi[1] * scale));
    top = static_cast<int>(std::round(roi[2] * scale));
    const int right = static_cast<int>(std::round(roi[3] * scale)), bottom = static_cast<int>(std::round(roi[4] * scale));
    const int pixels_h = std::max(bottom - top + 1, 1), pixels_w = std::max(right - left + 1, 1);
    height = static_cast<T>(static_cast<float>(pixels_h)) / static_cast<T>(static_cast<float>(pooling.height));
    width = static_cast<T>(static_cast<float>(pixels_w)) / static_cast<T>(static_cast<float>(pooling.width));
  }
};

template <class T>
inline int64_t edge(int64_t bin, T size, int64_t start, int64_t limit, bool up) {
  const T at = static_cast<T>(static_cast<float>(bin)) * size;
  const int pixel = static_cast<int>(up ? std::ceil(at) : std::floor(at));
  return std::min(std::max<int64_t>(pixel + start, 0), limit);
}

// How many pixels the bins of all regions have, on one channel, with those outside the map.
template <class T>
double count_pixels(const T* rois, T scale, const Pooling& pooling) {
  double pixels = 0;
  for (int64_t n = 0; n < pooling.regions; ++n) {
    const Bins<T> bins(rois + n * 5, scale, pooling);
    pixels += (static_cast<double>(bins.height) + 1) * (static_cast<double>(bins.width) + 1);
  }
  return pixels * static_cast<double>(pooling.height) * static_cast<double>(pooling.width);
}

template <class T, int Lanes>
inline void largest(const T* map, int64_t width, const Window& window, T* maximum, int32_t* place) {
  const bool empty = window.bottom <= window.top || window.right <= window.left;
  T largest[Lanes];
  int32_t where[Lanes];
  for (int k = 0; k < Lanes; ++k) {
    largest[k] = empty ? T(0.0f) : static_cast<T>(-FLT_MAX);
    where[k] = -1;
  }
  for (int64_t h = window.top; h < window.bottom; ++h) {
    for (int64_t w = window.left; w < window.right; ++w) {
      const T* pixel = map + (h * width + w) * Lanes;
      const int32_t here = static_cast<int32_t>(h * width + w);
      for (int k = 0; k < Lanes; ++k) {
        const bool larger = pixel[k] > largest[k];
        largest[k] = larger ? pixel[k] : largest[k];
        where[k] = larger ? here : where[k];
      }
    }
  }
  for (int k = 0; k < Lanes; ++k) {
    maximum[k] = largest[k];
    place[k] = where[k];
  }
}

} // namespace

template <class T>
void roi_pool(const Threads& all, const Maps<const T>& input, const T* rois, const Pooling& pooling, T* output, int32_t* argmax) {
  const T scale = static_cast<T>(pooling.scale);
  const int64_t pixels = input.height * input.width, area = pooling.height * pooling.width;
  constexpr int Lanes = 32;
  const double map = static_cast<double>(input.batch) * static_cast<double>(pixels);
  const Threads threads =
      worth(all, static_cast<double>(input.channels) * (map + count_pixels(rois, scale, pooling) * kPixelCost));
  const int64_t blocks = (input.channels + Lanes - 1) / Lanes;
  const int64_t together = threads.count <= 1 ? 1 : blocks;
  Buffer<T> packed(together * input.batch * pixels * Lanes);
  for (int64_t first = 0; first < blocks; first += together) {
    pack_blocks<Lanes>(threads, input, first, std::min(together, blocks - first), static_cast<T*>(packed));
    parallel(threads, std::min(together, blocks - first) * pooling.regions, [&](int64_t begin, int64_t end) {
      Buffer<T> maxima(area * Lanes);
      Buffer<int32_t> places(area * Lanes);
      Buffer<int64_t> lefts(pooling.width), rights(pooling.width);
      for (int64_t at = begin; at < end; ++at) {
        const int64_t block = first + at / pooling.regions, n = at % pooling.regions, channel = block * Lanes;
        const Bins<T> bins(rois + n * 5, scale, pooling);
        const T* map = packed + ((block - first) * input.batch + bins.image) * pixels * Lanes;
        for (int64_t pw = 0; pw < pooling.width; ++pw) {
          lefts[pw] = edge(pw, bins.width, bins.left, input.width, false);
          rights[pw] = edge(pw + 1, bins.width, bins.left, input.width, true);
        }
        for (int64_t ph = 0; ph < pooling.height; ++ph) {
          const int64_t top = edge(ph, bins.height, bins.top, input.height, false);
          const int64_t bottom = edge(ph + 1, bins.height, bins.top, input.height, true);
          for (int64_t pw = 0; pw < pooling.width; ++pw) {
            const Window window{top, bottom, lefts[pw], rights[pw]};
            const int64_t bin = (ph * pooling.width + pw) * Lanes;
            largest<T, Lanes>(map, input.width, window, maxima + bin, places + bin);
          }
        }
        const int64_t channels = std::min<int64_t>(Lanes, input.channels - channel);
        unpack<Lanes>(static_cast<T*>(maxima), area, channels, output + (n * input.channels + channel) * area, area);
        unpack<Lanes>(static_cast<int32_t*>(places), area, channels, argmax + (n * input.channels + channel) * area, area);
      }
    });
  }
}

template <class T>
void roi_pool_backward(const Threads& all, const Maps<const T>& grad, const T* rois, const int32_t* argmax, const Pooling& pooling, const Maps<T>& grad_input) {
  const int64_t pixels = grad_input.height * grad_input.width, area = pooling.height * pooling.width;
  const int64_t channels = grad_input.channels;
  const double map = static_cast<double>(grad_input.batch) * static_cast<double>(pixels);
  const double grads = static_cast<double>(pooling.regions) * static_cast<double>(area);
  const Threads threads = worth(all, static_cast<double>(channels) * (map * 0.25 + grads * kAddCost));
  const bool dense = grad.column_stride == 1 && grad.row_stride == grad.width;
  // As many planes as stay in the second-level cache, so that regions' gradients are read in runs.
  const int64_t together = std::max<int64_t>(1, kCachedBytes / (grad_input.batch * pixels * static_cast<int64_t>(sizeof(T))));
  const int64_t share = (channels + threads.count - 1) / std::max<int64_t>(threads.count, 1);
  const int64_t block = std::max<int64_t>(1, std::min(together, share)), blocks = (channels + block - 1) / block;
  parallel(threads, blocks, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * block, last = std::min(first + block, channels);
      for (int64_t image = 0; image < grad_input.batch; ++image) {
        T* planes = grad_input.data + (image * channels + first) * pixels;
        std::fill(planes, planes + (last - first) * pixels, T(0.0f));
      }
      for (int64_t n = 0; n < pooling.regions; ++n) {
        T* image = grad_input.data + static_cast<int>(rois[n * 5]) * channels * pixels;
        for (int64_t c = first; c < last; ++c) {
          T* plane = image + c * pixels;
          const int32_t* places = argmax + (n * channels + c) * area;
          const T* from = grad.data + n * grad.batch_stride + c * grad.channel_stride;
          if (dense) {
            for (int64_t bin = 0; bin < area; ++bin) {
              if (places[bin] != -1) {
                plane[places[bin]] += from[bin];
              }
            }
            continue;
          }
          for (int64_t bin = 0; bin < area; ++bin) {
            if (places[bin] != -1) {
              plane[places[bin]] += from[bin / pooling.width * grad.row_stride + bin % pooling.width * grad.column_stride];
            }
          }
        }
      }
    }
  });
}

#define INSTANTIATE(T)                                                                                           \
  template void roi_pool<T>(const Threads&, const Maps<const T>&, const T*, const Pooling&, T*, int32_t*);       \
  template void roi_pool_backward<T>(                                                                            \
      const Threads&, const Maps<const T>&, const T*, const int32_t*, const Pooling&, const Maps<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(Half)
#undef INSTANTIATE

} // namespace build_torchvision
