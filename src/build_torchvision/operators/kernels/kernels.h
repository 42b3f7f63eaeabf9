// What the adaptors call: one function per operator and direction, on pointers and strides (counted in elements).
//
// Instantiated for the types that upstream's operator admits. Maps are read with any strides; regions, gradients that
// are called contiguous, and every result are contiguous. Regions are rows of 5: image, left, top, right, bottom.
#pragma once

#include "number.h"

namespace build_torchvision {

// A batch of feature maps (batch, channels, height, width) with its strides.
template <class T>
struct Maps {
  T* data;
  int64_t batch, channels, height, width;
  int64_t batch_stride, channel_stride, row_stride, column_stride;
};

// How regions are pooled. `sampling_ratio` <= 0 takes as many samples as a bin has pixels.
struct Pooling {
  const int64_t regions;
  const double scale;
  const int64_t height, width;
  const int64_t sampling_ratio;
  const bool aligned;
};

// Affine quantization: value = (stored - zero_point) * scale.
struct Quantization {
  double scale;
  int64_t zero_point;
};

// A deformable convolution. The output has `batch` images of out_height x out_width; batch counts those of one call.
struct Convolution {
  int64_t batch, channels, height, width;
  int64_t kernel_height, kernel_width, stride_height, stride_width, pad_height, pad_width, dilation_height,
      dilation_width;
  int64_t offset_groups, out_height, out_width;
};

// Greedy suppression. Writes the kept boxes' numbers, best score first, to `keep` (room for `count`); returns how many.
template <class T>
int64_t nms(
    const Threads& threads,
    const T* boxes,
    int64_t box_stride,
    int64_t coordinate_stride,
    const T* scores,
    int64_t score_stride,
    int64_t count,
    double threshold,
    int64_t* keep);

// The same on integers. `exact_areas`: areas are computed in integers, as up to release 0.27, and not in float.
template <class T>
int64_t quantized_nms(
    const Threads& threads,
    const T* boxes,
    int64_t box_stride,
    int64_t coordinate_stride,
    const T* scores,
    int64_t score_stride,
    int64_t count,
    double threshold,
    bool exact_areas,
    int64_t* keep);

template <class T>
void roi_align(const Threads& threads, const Maps<const T>& input, const T* rois, const Pooling& pooling, T* output);

// `grad` has the output's shape and any strides; every element of `grad_input` (contiguous) is written.
template <class T>
void roi_align_backward(
    const Threads& threads,
    const Maps<const T>& grad,
    const T* rois,
    const Pooling& pooling,
    const Maps<T>& grad_input);

template <class T>
void quantized_roi_align(
    const Threads& threads,
    const Maps<const T>& input,
    const Quantization& input_quantization,
    const T* rois,
    const Quantization& rois_quantization,
    const Pooling& pooling,
    T* output);

template <class T>
void roi_pool(
    const Threads& threads,
    const Maps<const T>& input,
    const T* rois,
    const Pooling& pooling,
    T* output,
    int32_t* argmax);

template <class T>
void roi_pool_backward(
    const Threads& threads,
    const Maps<const T>& grad,
    const T* rois,
    const int32_t* argmax,
    const Pooling& pooling,
    const Maps<T>& grad_input);

template <class T>
void ps_roi_align(
    const Threads& threads,
    const Maps<const T>& input,
    const T* rois,
    const Pooling& pooling,
    T* output,
    int32_t* channel_mapping);

// `grad` is contiguous.
template <class T>
void ps_roi_align_backward(
    const Threads& threads,
    const Maps<const T>& grad,
    const T* rois,
    const int32_t* channel_mapping,
    const Pooling& pooling,
    const Maps<T>& grad_input);

template <class T>
void ps_roi_pool(
    const Threads& threads,
    const Maps<const T>& input,
    const T* rois,
    const Pooling& pooling,
    T* output,
    int32_t* channel_mapping);

template <class T>
void ps_roi_pool_backward(
    const Threads& threads,
    const Maps<const T>& grad,
    const T* rois,
    const int32_t* channel_mapping,
    const Pooling& pooling,
    const Maps<T>& grad_input);

// Whether every region names an image of the batch.
template <class T>
bool images_exist(const T* rois, int64_t regions, int64_t batch);

// The samples of a deformable convolution: columns (channels * kernel, batch * out_height * out_width). All contiguous;
// `mask` may be null.
template <class T>
void deform_columns(
    const Threads& threads,
    const Convolution& shape,
    const T* input,
    const T* offset,
    const T* mask,
    T* columns);

// Adds the columns' gradient to the input's.
template <class T>
void deform_grad_input(
    const Threads& threads,
    const Convolution& shape,
    const T* columns,
    const T* offset,
    const T* mask,
    T* grad_input);

template <class T>
void deform_grad_offset_mask(
    const Threads& threads,
    const Convolution& shape,
    const T* columns,
    const T* input,
    const T* offset,
    const T* mask,
    T* grad_offset,
    T* grad_mask);

// Boxes are rows of 5, contiguous: centre x, y, width, height, angle in degrees. `clamped`: overlaps are brought into
// [0, 1], as from release 0.27 on.
template <class T>
void box_iou_rotated(
    const Threads& threads,
    const T* boxes1,
    int64_t count1,
    const T* boxes2,
    int64_t count2,
    bool clamped,
    float* overlaps);

} // namespace build_torchvision
