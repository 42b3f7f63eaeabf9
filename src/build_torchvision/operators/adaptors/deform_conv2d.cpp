// deform_conv2d for torch's dispatcher, in place of upstream's ops/cpu/deform_conv2d_kernel.cpp.
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
Convolution convolution(const at::Tensor& input, const at::Tensor& weight, const Geometry& geometry, int64_t images) {
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
    const at::Tensor& input,
    const at::Tensor& weight,
    const at::Tensor& offset,
    const at::Tensor& mask,
    const Geometry& geometry,
    bool use_mask) {
  TORCH_CHECK(input.dim() == 4, "input must have 4 dimensions");
  TORCH_CHECK(offset.dim() == 4, "offset must have 4 dimensions");
  TORCH_CHECK(!use_mask || mask.dim() == 4, "mask must have 4 dimensions");
  TORCH_CHECK(weight.dim() == 4, "weight must have 4 dimensions");
  TORCH_CHECK(input.device().is_cpu(), "input must be a CPU tensor");
  const int64_t weight_h = weight.size(2), weight_w = weight.size(3);
  TORCH_CHECK(weight_h > 0 && weight_w > 0, "weight_h: ", weight_h, " weight_w: ", weight_w);
  TORCH_CHECK(
      geometry.stride_h > 0 && geometry.stride_w > 0,
      "stride_h: ",
      geometry.stride_h,
      " stride_w: ",
      geometry.stride_w);
  TORCH_CHECK(geometry.pad_h >= 0 && geometry.pad_w >= 0, "pad_h: ", geometry.pad_h, " pad_w: ", geometry.pad_w);
  TORCH_CHECK(
      geometry.dilation_h > 0 && geometry.dilation_w > 0,
      "dilation_h: ",
      geometry.dilation_h,
      " dilation_w: ",
      geometry.dilation_w);
  TORCH_CHECK(
      weight.size(1) * geometry.weight_groups == input.size(1), "weight.shape[1] * groups must be input.shape[1]");
  TORCH_CHECK(weight.size(0) % geometry.weight_groups == 0, "weight.shape[0] must be a multiple of groups");
  const int64_t elements = geometry.offset_groups * weight_h * weight_w;
  TORCH_CHECK(
      offset.size(1) == 2 * elements,
      "offset.shape[1] is not valid: got: ",
      offset.size(1),
      " expected: ",
      2 * elements);
  TORCH_CHECK(
      !use_mask || mask.size(1) == elements,
      "mask.shape[1] is not valid: got: ",
      mask.size(1),
      " expected: ",
      elements);
  TORCH_CHECK(input.size(1) % geometry.offset_groups == 0, "input.shape[1] must be a multiple of offset groups");
  TORCH_CHECK(offset.size(0) == input.size(0), "invalid batch size of offset");
  const Convolution shape = convolution(input, weight, geometry, 1);
  TORCH_CHECK(
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
  TORCH_CHECK(mask.size(0) == input.size(0), "invalid batch size of mask");
  TORCH_CHECK(
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
  TORCH_CHECK(
      shape.out_height > 0 && shape.out_width > 0,
      "Calculated output size too small - out_h: ",
      shape.out_height,
      " out_w: ",
      shape.out_width);
}

// A contiguous tensor's data from image `first` on; null for none.
template <class T>
const Element<T>* from_image(const at::Tensor& tensor, int64_t first) {
  return read<T>(tensor) + first * tensor.stride(0);
}

void sample(
    const Convolution& shape,
    const at::Tensor& input,
    const at::Tensor& offset,
    const at::Tensor& mask,
    bool use_mask,
    int64_t first,
    const at::Tensor& columns) {
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(input.scalar_type(), "deformable_im2col", [&] {
    deform_columns<Element<scalar_t>>(
        torch_threads(),
        shape,
        from_image<scalar_t>(input, first),
        from_image<scalar_t>(offset, first),
        use_mask ? from_image<scalar_t>(mask, first) : nullptr,
        write<scalar_t>(columns));
  });
}

at::Tensor deform_conv2d_forward(
    const at::Tensor& input_any,
    const at::Tensor& weight_any,
    const at::Tensor& offset_any,
    const at::Tensor& mask_any,
    const at::Tensor& bias,
    int64_t stride_h,
    int64_t stride_w,
    int64_t pad_h,
    int64_t pad_w,
    int64_t dilation_h,
    int64_t dilation_w,
    int64_t weight_groups,
    int64_t offset_groups,
    bool use_mask) {
  const at::Tensor input = input_any.contiguous(), weight = weight_any.contiguous();
  const at::Tensor offset = offset_any.contiguous(), mask = mask_any.contiguous();
  const Geometry geometry{stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, weight_groups, offset_groups};
  check_shapes(input, weight, offset, mask, geometry, use_mask);
  const int64_t batch = input.size(0), images = images_at_a_time(batch), out_channels = weight.size(0);
  const Convolution shape = convolution(input, weight, geometry, images);
  if (batch == 0) {
    return at::zeros({batch, out_channels, shape.out_height, shape.out_width}, input.options());
  }
  const int64_t rows = shape.channels * shape.kernel_height * shape.kernel_width;
  const int64_t positions = images * shape.out_height * shape.out_width;
  const at::Tensor weights = weight.view({weight_groups, out_channels / weight_groups, rows / weight_groups});
  at::Tensor columns = at::empty({weight_groups, rows / weight_groups, positions}, input.options());
  at::Tensor out =
      at::zeros({batch / images, weight_groups, out_channels / weight_groups, positions}, input.options());
  for (int64_t block = 0; block < batch / images; ++block) {
    sample(shape, input, offset, mask, use_mask, block * images, columns);
    for (int64_t group = 0; group < weight_groups; ++group) {
      out[block][group].addmm_(weights[group], columns[group]);
    }
  }
  return out.view({batch / images, out_channels, images, shape.out_height, shape.out_width})
             .transpose(1, 2)
             .reshape({batch, out_channels, shape.out_height, shape.out_width}) +
      bias.contiguous().view({1, out_channels, 1, 1});
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> deform_conv2d_gradients(
    const at::Tensor& grad_any,
    const at::Tensor& input_any,
    const at::Tensor& weight_any,
    const at::Tensor& offset_any,
    const at::Tensor& mask_any,
    const at::Tensor& bias_any,
    int64_t stride_h,
    int64_t stride_w,
    int64_t pad_h,
    int64_t pad_w,
    int64_t dilation_h,
    int64_t dilation_w,
    int64_t weight_groups,
    int64_t offset_groups,
    bool use_mask) {
  const at::Tensor grad = grad_any.contiguous(), input = input_any.contiguous(), weight = weight_any.contiguous();
  const at::Tensor offset = offset_any.contiguous(), mask = mask_any.contiguous(), bias = bias_any.contiguous();
  const Geometry geometry{stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, weight_groups, offset_groups};
  const int64_t batch = input.size(0), images = images_at_a_time(batch), out_channels = weight.size(0);
  at::Tensor grad_input = at::zeros_like(input), grad_weight = at::zeros_like(weight);
  at::Tensor grad_offset = at::zeros_like(offset), grad_mask = at::zeros_like(mask);
  if (batch) {
    const Convolution shape = convolution(input, weight, geometry, images);
    const int64_t rows = shape.channels * shape.kernel_height * shape.kernel_width;
    const int64_t positions = images * shape.out_height * shape.out_width;
    const at::Tensor weights = weight.view({weight_groups, out_channels / weight_groups, rows / weight_groups});
    at::Tensor weight_gradients = grad_weight.view({weight_groups, out_channels / weight_groups, rows / weight_groups});
    // As a view and as a copy: the layout of what torch multiplies decides how it rounds.
    const at::Tensor outputs = grad.view({batch / images,
                                          images,
                                          weight_groups,
                                          out_channels / weight_groups,
                                          shape.out_height,
                                          shape.out_width})
                                   .permute({0, 2, 3, 1, 4, 5});
    const at::Tensor outputs_copied = outputs.contiguous();
    at::Tensor columns = at::empty({weight_groups, rows / weight_groups, positions}, input.options());
    for (int64_t block = 0; block < batch / images; ++block) {
      const int64_t first = block * images;
      // Added to zeros, as upstream does: torch rounds a plain product otherwise (float16, and float64 now and then).
      columns.zero_();
      for (int64_t group = 0; group < weight_groups; ++group) {
        columns[group].addmm_(weights[group].t(), outputs[block][group].flatten(1));
      }
      AT_DISPATCH_FLOATING_TYPES_AND_HALF(input.scalar_type(), "compute_grad_offset_and_mask", [&] {
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
        weight_gradients[group].addmm_(outputs_copied[block][group].flatten(1), columns[group].t());
      }
    }
  }
  at::Tensor grad_bias = at::ones_like(bias) * grad.sum({0, 2, 3});
  return {grad_input, grad_weight, grad_offset, grad_mask, grad_bias};
}

} // namespace

TORCH_LIBRARY_IMPL(torchvision, CPU, m) {
  m.impl(TORCH_SELECTIVE_NAME("torchvision::deform_conv2d"), TORCH_FN(deform_conv2d_forward));
  m.impl(TORCH_SELECTIVE_NAME("torchvision::_deform_conv2d_backward"), TORCH_FN(deform_conv2d_gradients));
}

} // namespace build_torchvision
