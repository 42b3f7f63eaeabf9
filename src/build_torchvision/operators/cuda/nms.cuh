// Non-maximum suppression on a GPU, spread over all of it.
//
// The boxes come in the order of falling scores; one is kept unless a kept one before it overlaps it by more than the
// threshold. The decision is sequential, the comparisons are not. Boxes are settled in groups of 1024: one launch
// compares all pairs inside every group; then, group by group, one block decides which of the group are kept, and the
// whole GPU compares those with the boxes after the group and marks what they remove. Work that grows with the square
// of the number of boxes is thus never done by one block alone, only kept boxes are compared with later ones, and the
// memory is 128 bytes per box. Nothing waits for the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace build_torchvision {
namespace nms {

constexpr int WORD = 64; // boxes described by one word of a mask
constexpr int GROUP = 1024; // boxes that are settled by one block
constexpr int WORDS = GROUP / WORD; // words of a box's mask: one bit for each box of its group
constexpr int SETTLERS = 256; // threads of the block that settles a group
constexpr int TILE = 128; // boxes, and kept boxes, that a block of `remove` compares

using Word = unsigned long long;

// The type in which areas are computed: as PyTorch's acc_type on CUDA, float for half.
template <typename T>
struct Area {
  using type = float;
};
template <>
struct Area<double> {
  using type = double;
};

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

// Whether the intersection over union of two boxes exceeds `threshold`. Differences are of type T and products of its
// area type, in this order: results are the bits of TorchVision's definition.
template <typename T>
__device__ inline bool overlap(const Box<T>& a, const Box<T>& b, float threshold) {
  using A = typename Area<T>::type;
  T left = max(a.x1, b.x1), right = min(a.x2, b.x2);
  T top = max(a.y1, b.y1), bottom = min(a.y2, b.y2);
  T width = max(right - left, (T)0), height = max(bottom - top, (T)0);
  A shared = (A)width * height;
  A area_a = ((A)a.x2 - a.x1) * (a.y2 - a.y1);
  A area_b = ((A)b.x2 - b.x1) * (b.y2 - b.y1);
  return (shared / (area_a + area_b - shared)) > threshold;
}

// masks[i][w]: the boxes 64 w ... 64 w + 63 of i's group that come after box i and overlap it. A block compares 64 boxes
// with 64; grid: (WORDS, WORDS, groups). Words of earlier boxes are never read, and not written.
template <typename T>
__global__ void compare(int boxes, float threshold, const Box<T>* box, Word* masks) {
  const int word = blockIdx.x, row_word = blockIdx.y;
  const int64_t group = (int64_t)blockIdx.z * GROUP;
  const int64_t column = group + word * WORD, row = group + row_word * WORD + threadIdx.x;
  __shared__ Box<T> columns[WORD];
  if (row_word > word) {
    return;
  }
  if (column + threadIdx.x < boxes) {
    columns[threadIdx.x] = box[column + threadIdx.x];
  }
  __syncthreads();
  if (row >= boxes) {
    return;
  }
  const Box<T> own = box[row];
  const int last = boxes - column < WORD ? (int)(boxes - column) : WORD;
  Word mask = 0;
  for (int i = word == row_word ? threadIdx.x + 1 : 0; i < last; i++) {
    if (overlap(own, columns[i], threshold)) {
      mask |= (Word)1 << i;
    }
  }
  masks[row * WORDS + word] = mask;
}

// Settle one group, 64 boxes at a time: `keep` for each of its boxes, and the kept ones one after the other in `kept`,
// `*count` of them. One block of SETTLERS threads. While a warp goes through the 64 boxes of a step, all threads have
// their part of the step's masks in registers already.
template <typename T>
__global__ void settle(
    int boxes,
    int64_t group,
    const Box<T>* box,
    const Word* masks,
    const bool* removed,
    bool* keep,
    Box<T>* kept,
    int* count) {
  __shared__ Word gone[WORDS]; // removed so far, by word
  __shared__ Word own[WORD]; // the step's masks of the step's own boxes
  __shared__ Word chosen; // the boxes that the step keeps
  const int thread = threadIdx.x, size = boxes - group < GROUP ? (int)(boxes - group) : GROUP;
  constexpr int ROWS = SETTLERS / WORDS; // rows that are read at once, each by WORDS threads
  constexpr int PARTS = WORD / ROWS;
  const int word = thread % WORDS, first = thread / WORDS;

  for (int base = 0; base < GROUP; base += SETTLERS) {
    const int i = base + thread;
    const unsigned bits = __ballot_sync(0xffffffffu, i >= size || removed[group + i]);
    if (thread % 32 == 0) {
      reinterpret_cast<unsigned*>(gone)[i / 32] = bits; // little endian: the lower half of a word comes first
    }
  }
  int total = 0;
  Word part[PARTS], next[PARTS], own_next = 0;
  auto load = [&](int step, Word* into) {
    for (int p = 0; p < PARTS; p++) {
      const int row = step * WORD + first + p * ROWS;
      into[p] = step < WORDS && row < size && word > step ? masks[(group + row) * WORDS + word] : 0;
    }
    const int row = step * WORD + thread;
    if (thread < WORD) {
      own_next = step < WORDS && row < size ? masks[(group + row) * WORDS + step] : 0;
    }
  };
  load(0, next);
  __syncthreads();
  for (int step = 0; step * WORD < size; step++) {
    for (int p = 0; p < PARTS; p++) {
      part[p] = next[p];
    }
    if (thread < WORD) {
      own[thread] = own_next;
    }
    load(step + 1, next); // arrives while this step is settled
    __syncthreads();
    if (thread == 0) {
      Word open = ~gone[step], picked = 0;
      while (open) {
        const int i = __ffsll(open) - 1;
        const Word bit = (Word)1 << i;
        picked |= bit;
        open &= ~(own[i] | bit);
      }
      chosen = picked;
    }
    __syncthreads();
    const Word picked = chosen;
    Word hit = 0;
    for (int p = 0; p < PARTS; p++) {
      hit |= (picked >> (first + p * ROWS)) & 1 ? part[p] : 0;
    }
    hit |= __shfl_xor_sync(0xffffffffu, hit, 16); // two rows of a warp have the same word 16 threads apart
    if (hit && thread % 32 < 16) {
      atomicOr(&gone[word], hit);
    }
    const int i = step * WORD + thread;
    if (thread < WORD && i < size) {
      const bool stays = (picked >> thread) & 1;
      keep[group + i] = stays;
      if (stays) {
        kept[total + __popcll(picked & (((Word)1 << thread) - 1))] = box[group + i];
      }
    }
    total += __popcll(picked);
    __syncthreads();
  }
  if (thread == 0) {
    *count = total;
  }
}

// Mark the boxes from `begin` on that a kept box overlaps. Grid: (tiles of boxes, GROUP / TILE slices of kept boxes).
template <typename T>
__global__ void remove(
    int boxes,
    int64_t begin,
    float threshold,
    const Box<T>* box,
    const Box<T>* kept,
    const int* count,
    bool* removed) {
  const int offset = blockIdx.y * TILE, left = *count - offset;
  if (left <= 0) {
    return;
  }
  __shared__ Box<T> slice[TILE];
  const int size = left < TILE ? left : TILE;
  if (threadIdx.x < size) {
    slice[threadIdx.x] = kept[offset + threadIdx.x];
  }
  __syncthreads();
  const int64_t i = begin + (int64_t)blockIdx.x * TILE + threadIdx.x;
  if (i >= boxes || removed[i]) {
    return;
  }
  const Box<T> own = box[i];
  for (int k = 0; k < size; k++) {
    if (overlap(slice[k], own, threshold)) {
      removed[i] = true;
      return;
    }
  }
}

// Bytes that `run` needs for n boxes of type T, in this order: masks, kept boxes, their number.
inline int64_t groups_of(int64_t boxes) {
  return (boxes + GROUP - 1) / GROUP;
}

template <typename T>
inline int64_t scratch_bytes(int64_t boxes) {
  return groups_of(boxes) * GROUP * WORDS * (int64_t)sizeof(Word) + GROUP * (int64_t)sizeof(Box<T>) + 16;
}

// Which of `boxes` boxes, in the order of falling scores, are kept. `removed` has `boxes` elements, all false;
// `scratch` has `scratch_bytes` bytes, aligned to 16. Everything is queued on `stream`.
template <typename T>
inline void run(
    int boxes,
    float threshold,
    const T* sorted,
    void* scratch,
    bool* removed,
    bool* keep,
    cudaStream_t stream) {
  const Box<T>* box = reinterpret_cast<const Box<T>*>(sorted);
  const int groups = (int)groups_of(boxes);
  Word* masks = static_cast<Word*>(scratch);
  Box<T>* kept = reinterpret_cast<Box<T>*>(masks + (int64_t)groups * GROUP * WORDS);
  int* count = reinterpret_cast<int*>(kept + GROUP);
  constexpr int MOST = 65535; // of a grid's third dimension
  for (int start = 0; start < groups; start += MOST) {
    const int64_t skipped = (int64_t)start * GROUP;
    const int here = groups - start < MOST ? groups - start : MOST;
    compare<T><<<dim3(WORDS, WORDS, here), WORD, 0, stream>>>(
        boxes - (int)skipped, threshold, box + skipped, masks + skipped * WORDS);
  }
  for (int64_t group = 0; group < boxes; group += GROUP) {
    settle<T><<<1, SETTLERS, 0, stream>>>(boxes, group, box, masks, removed, keep, kept, count);
    const int64_t begin = group + GROUP;
    if (begin < boxes) {
      const unsigned tiles = (unsigned)((boxes - begin + TILE - 1) / TILE);
      remove<T><<<dim3(tiles, GROUP / TILE), TILE, 0, stream>>>(boxes, begin, threshold, box, kept, count, removed);
    }
  }
}

} // namespace nms
} // namespace build_torchvision
