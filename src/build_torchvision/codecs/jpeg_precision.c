/* Refuse JPEG samples of more than 8 bits where libjpeg-turbo would set up their decoder or encoder.
 *
 * TorchVision reads and writes samples of 8 bits: of others jpeg_read_scanlines reports JERR_BAD_PRECISION, after
 * libjpeg-turbo has set up modules that are compiled once more for 12 and 16 bits and make up a fifth of the library.
 * These functions take the names of those modules' initialisers and report the same error.
 */
#include "jinclude.h"
#include "jpeglib.h"
#include "jerror.h"

/* Called through other prototypes, whose further arguments are not looked at. */
#define REFUSE_TO_DECODE(name) \
   void name(j_decompress_ptr cinfo) { ERREXIT1(cinfo, JERR_BAD_PRECISION, cinfo->data_precision); }
#define REFUSE_TO_ENCODE(name) \
   void name(j_compress_ptr cinfo) { ERREXIT1(cinfo, JERR_BAD_PRECISION, cinfo->data_precision); }

REFUSE_TO_DECODE(j12init_1pass_quantizer)
REFUSE_TO_DECODE(j12init_2pass_quantizer)
REFUSE_TO_DECODE(j12init_color_deconverter)
REFUSE_TO_DECODE(j12init_d_coef_controller)
REFUSE_TO_DECODE(j12init_d_diff_controller)
REFUSE_TO_DECODE(j12init_d_main_controller)
REFUSE_TO_DECODE(j12init_d_post_controller)
REFUSE_TO_DECODE(j12init_inverse_dct)
REFUSE_TO_DECODE(j12init_lossless_decompressor)
REFUSE_TO_DECODE(j12init_merged_upsampler)
REFUSE_TO_DECODE(j12init_upsampler)
REFUSE_TO_DECODE(j16init_color_deconverter)
REFUSE_TO_DECODE(j16init_d_diff_controller)
REFUSE_TO_DECODE(j16init_d_main_controller)
REFUSE_TO_DECODE(j16init_d_post_controller)
REFUSE_TO_DECODE(j16init_lossless_decompressor)
REFUSE_TO_DECODE(j16init_upsampler)

REFUSE_TO_ENCODE(j12init_c_coef_controller)
REFUSE_TO_ENCODE(j12init_c_diff_controller)
REFUSE_TO_ENCODE(j12init_c_main_controller)
REFUSE_TO_ENCODE(j12init_c_prep_controller)
REFUSE_TO_ENCODE(j12init_color_converter)
REFUSE_TO_ENCODE(j12init_downsampler)
REFUSE_TO_ENCODE(j12init_forward_dct)
REFUSE_TO_ENCODE(j12init_lossless_compressor)
REFUSE_TO_ENCODE(j16init_c_diff_controller)
REFUSE_TO_ENCODE(j16init_c_main_controller)
REFUSE_TO_ENCODE(j16init_c_prep_controller)
REFUSE_TO_ENCODE(j16init_color_converter)
REFUSE_TO_ENCODE(j16init_downsampler)
REFUSE_TO_ENCODE(j16init_lossless_compressor)
