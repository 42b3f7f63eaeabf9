// deform_conv2d, in place of upstream's ops/cpu/deform_conv2d_kernel.cpp.
//
// The convolution is a matrix product of weights and sampled columns, for as many images at a time as upstream takes:
// torch's product of the same shapes gives the same bits.

#include "tensor.h"

namespace build_torchvision {
namespace {

constexpr int64_t kMostImages = 32;

int64_t images_at_a_time(int64_t batch) {
  int64_t images = std::min(batch, kMostImages);
  while (images > 1 && batch % images) {
    --images;
  }
  return std::max<int64_t>(images, 1);
}

struct Geometry {
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, weight_groups, offset_groups;
};

// The shape of one product, of `images` images.
Convolution convolution(const Tensor& input, const Tensor& weight, const Geometry& geometry, int64_t images) {
  const auto size = [](int64_t length, int64_t pad, int64_t dilation, int64_t kernel, int64_t stride) {
    return (length + 2 * pad - (dilation * (kernel - 1) + 1)) / stride + 1;
  };
  const int64_t out_h = size(input.size(2), geometry.pad_h, geometry.dilation_h, weight.size(2), geometry.stride_h);
  const int64_t out_w = size(input.size(3), geometry.pad_w, geometry.dilation_w, weight.size(3), geometry.stride_w);
  return {images,
          input.size(1),
          input.size(2),
          input.size(3),
          weight.size(2),
          weight.size(3),
          geometry.stride_h,
          geometry.stride_w,
          geometry.pad_h,
          geometry.pad_w,
          geometry.dilation_h,
          geometry.dilation_w,
          geometry.offset_groups,
          out_h,
          out_w};
}

void check_shapes(
    const Tensor& input,
    const Tensor& weight,
    const Tensor& offset,
    const Tensor& mask,
    const Geometry& geometry,
    bool use_mask) {
  CHECK(input.dim() == 4, "input must have 4 dimensions");
  CHECK(offset.dim() == 4, "offset must have 4 dimensions");
  CHECK(!use_mask || mask.dim() == 4, "mask must have 4 dimensions");
  CHECK(weight.dim() == 4, "weight must have 4 dimensions");
  CHECK(input.is_cpu(), "input must be a CPU tensor");
  const int64_t weight_h = weight.size(2), weight_w = weight.size(3);
  CHECK(weight_h > 0 && weight_w > 0, "weight_h: ", weight_h, " weight_w: ", weight_w);
  CHECK(
      geometry.stride_h > 0 && geometry.stride_w > 0,
      "stride_h: ",
      geometry.stride_h,
      " stride_w: ",
      geometry.stride_w);
  CHECK(geometry.pad_h >= 0 && geometry.pad_w >= 0, "pad_h: ", geometry.pad_h, " pad_w: ", geometry.pad_w);
  CHECK(
      geometry.dilation_h > 0 && geometry.dilation_w > 0,
      "dilation_h: ",
      geometry.dilation_h,
      " dilation_w: ",
      geometry.dilation_w);
  CHECK(
      weight.size(1) * geometry.weight_groups == input.size(1), "weight.shape[1] * groups must be input.shape[1]");
  CHECK(weight.size(0) % geometry.weight_groups == 0, "weight.shape[0] must be a multiple of groups");
  const int64_t elements = geometry.offset_groups * weight_h * weight_w;
  CHECK(
      offset.size(1) == 2 * elements,
      "offset.shape[1] is not valid: got: ",
      offset.size(1),
      " expected: ",
      2 * elements);
  CHECK(
      !use_mask || mask.size(1) == elements,
      "mask.shape[1] is not valid: got: ",
      mask.size(1),
      " expected: ",
      elements);
  CHECK(input.size(1) % geometry.offset_groups == 0, "input.shape[1] must be a multiple of offset groups");
  CHECK(offset.size(0) == input.size(0), "invalid batch size of offset");
  const Convolution shape = convolution(input, weight, geometry, 1);
  CHECK(
      offset.size(2) == shape.out_height && offset.size(3) == shape.out_width,
      "offset output dims: (",
      offset.size(2),
      ", ",
      offset.size(3),
      ") - computed output dims: (",
      shape.out_height,
      ", ",
      shape.out_width,
      ")");
  CHECK(mask.size(0) == input.size(0), "invalid batch size of mask");
  CHECK(
      !use_mask || (mask.size(2) == shape.out_height && mask.size(3) == shape.out_width),
      "mask output dims: (",
      mask.size(2),
      ", ",
      mask.size(3),
      ") - computed output dims: (",
      shape.out_height,
      ", ",
      shape.out_width,
      ")");
  CHECK(
      shape.out_height > 0 && shape.out_width > 0,
      "Calculated output size too small - out_h: ",
      shape.out_height,
      " out_w: ",
      shape.out_width);
}

// A contiguous tensor's data from image `first` on; null for none.
template <class T>
const Element<T>* from_image(const Tensor& tensor, int64_t first) {
  return read<T>(tensor) + first * tensor.stride(0);
}

void sample(
    const Convolution& shape,
    const Tensor& input,
    const Tensor& offset,
    const Tensor& mask,
    bool use_mask,
    int64_t first,
    const Tensor& columns) {
  DISPATCH_FLOATING_AND_HALF(input.scalar_type(), "deformable_im2col", [&] {
    deform_columns<Element<scalar_t>>(
        torch_threads(),
        shape,
        from_image<scalar_t>(input, first),
        from_image<scalar_t>(offset, first),
        use_mask ? from_image<scalar_t>(mask, first) : nullptr,
        write<scalar_t>(columns));
  });
}

Tensor deform_conv2d_forward(
    const Tensor& input_any,
    const Tensor& weight_any,
    const Tensor& offset_any,
    const Tensor& mask_any,
    const Tensor& bias,
    int64_t stride_h,
    int64_t stride_w,
    int64_t pad_h,
    int64_t pad_w,
    int64_t dilation_h,
    int64_t dilation_w,
    int64_t weight_groups,
    int64_t offset_groups,
    bool use_mask) {
  const Tensor input = as_contiguous(input_any), weight = as_contiguous(weight_any);
  const Tensor offset = as_contiguous(offset_any), mask = as_contiguous(mask_any);
  const Geometry geometry{stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, weight_groups, offset_groups};
  check_shapes(input, weight, offset, mask, geometry, use_mask);
  const int64_t batch = input.size(0), images = images_at_a_time(batch), out_channels = weight.size(0);
  const Convolution shape = convolution(input, weight, geometry, images);
  if (batch == 0) {
    return zeros_as(input, {batch, out_channels, shape.out_height, shape.out_width});
  }
  const int64_t rows = shape.channels * shape.kernel_height * shape.kernel_width;
  const int64_t positions = images * shape.out_height * shape.out_width;
  const Tensor weights = shaped(weight, {weight_groups, out_channels / weight_groups, rows / weight_groups});
  Tensor columns = empty_as(input, {weight_groups, rows / weight_groups, positions});
  Tensor out = empty_as(input, {batch / images, weight_groups, out_channels / weight_groups, positions});
  for (int64_t block = 0; block < batch / images; ++block) {
    sample(shape, input, offset, mask, use_mask, block * images, columns);
    for (int64_t group = 0; group < weight_groups; ++group) {
      set_product(part(part(out, block), group), part(weights, group), part(columns, group));
    }
  }
  const Tensor blocks = shaped(out, {batch / images, out_channels, images, shape.out_height, shape.out_width});
  return plus(
      reshaped(permuted(blocks, {0, 2, 1, 3, 4}), {batch, out_channels, shape.out_height, shape.out_width}),
      shaped(as_contiguous(bias), {1, out_channels, 1, 1}));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> deform_conv2d_gradients(
    const Tensor& grad_any,
    const Tensor& input_any,
    const Tensor& weight_any,
    const Tensor& offset_any,
    const Tensor& mask_any,
    const Tensor& bias_any,
    int64_t stride_h,
    int64_t stride_w,
    int64_t pad_h,
    int64_t pad_w,
    int64_t dilation_h,
    int64_t dilation_w,
    int64_t weight_groups,
    int64_t offset_groups,
    bool use_mask) {
  const Tensor grad = as_contiguous(grad_any), input = as_contiguous(input_any), weight = as_contiguous(weight_any);
  const Tensor offset = as_contiguous(offset_any), mask = as_contiguous(mask_any), bias = as_contiguous(bias_any);
  const Geometry geometry{stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, weight_groups, offset_groups};
  const int64_t batch = input.size(0), images = images_at_a_time(batch), out_channels = weight.size(0);
  Tensor grad_input = zeros_as(input, input.sizes()), grad_weight = zeros_as(weight, weight.sizes());
  Tensor grad_offset = zeros_as(offset, offset.sizes()), grad_mask = zeros_as(mask, mask.sizes());
  if (batch) {
    const Convolution shape = convolution(input, weight, geometry, images);
    const int64_t rows = shape.channels * shape.kernel_height * shape.kernel_width;
    const int64_t positions = images * shape.out_height * shape.out_width;
    const std::vector<int64_t> matrices{weight_groups, out_channels / weight_groups, rows / weight_groups};
    const Tensor weights = shaped(weight, matrices), weight_gradients = shaped(grad_weight, matrices);
    // As a view and as a copy: the layout of what torch multiplies decides how it rounds.
    const std::vector<int64_t> blocks{
        batch / images, images, weight_groups, out_channels / weight_groups, shape.out_height, shape.out_width};
    const Tensor outputs = permuted(shaped(grad, blocks), {0, 2, 3, 1, 4, 5});
    const Tensor outputs_copied = as_contiguous(outputs);
    Tensor columns = empty_as(input, {weight_groups, rows / weight_groups, positions});
    for (int64_t block = 0; block < batch / images; ++block) {
      const int64_t first = block * images;
      for (int64_t group = 0; group < weight_groups; ++group) {
        set_product(
            part(columns, group), turned(part(weights, group)), rows_of(part(part(outputs, block), group)));
      }
      DISPATCH_FLOATING_AND_HALF(input.scalar_type(), "compute_grad_offset_and_mask", [&] {
        using T = Element<scalar_t>;
        const T* weights_of_mask = use_mask ? from_image<scalar_t>(mask, first) : nullptr;
        deform_grad_offset_mask<T>(
            torch_threads(),
            shape,
            read<scalar_t>(columns),
            from_image<scalar_t>(input, first),
            from_image<scalar_t>(offset, first),
            weights_of_mask,
            write<scalar_t>(grad_offset) + first * grad_offset.stride(0),
            use_mask ? write<scalar_t>(grad_mask) + first * grad_mask.stride(0) : nullptr);
        deform_grad_input<T>(
            torch_threads(),
            shape,
            read<scalar_t>(columns),
            from_image<scalar_t>(offset, first),
            weights_of_mask,
            write<scalar_t>(grad_input) + first * grad_input.stride(0));
      });
      sample(shape, input, offset, mask, use_mask, first, columns);
      for (int64_t group = 0; group < weight_groups; ++group) {
        add_product(
            part(weight_gradients, group),
            rows_of(part(part(outputs_copied, block), group)),
            turned(part(columns, group)));
      }
    }
  }
  Tensor grad_bias = gradient_of_bias(bias, grad);
  return {grad_input, grad_weight, grad_offset, grad_mask, grad_bias};
}

} // namespace

IMPLEMENT_ON_CPU(m) {
  m.impl(OPERATOR_NAME("deform_conv2d"), OPERATOR_FUNCTION(deform_conv2d_forward));
  m.impl(OPERATOR_NAME("_deform_conv2d_backward"), OPERATOR_FUNCTION(deform_conv2d_gradients));
}

} // namespace build_torchvision
