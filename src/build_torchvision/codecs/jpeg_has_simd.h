/* What libjpeg-turbo asks before it takes a vector function, answered at compile time: every CPU has what it needs.
 *
 * Each CPU ISA of x86-64 here has AVX2, each one of Arm has NEON. So the plain C functions that vector functions stand
 * in for are not compiled, and the environment variables that ask for them (JSIMD_FORCENONE and others) have no effect.
 * jconfigint.h includes this in every file but the one that defines the vector functions (jpeg_simd.c).
 */
#ifndef JPEG_HAS_SIMD_H
#define JPEG_HAS_SIMD_H
#define HAS(function) \
   static inline int jsimd_can_##function(void) { return 1; }

HAS(rgb_ycc)
HAS(rgb_gray)
HAS(ycc_rgb)
HAS(h2v2_downsample)
HAS(h2v1_downsample)
HAS(h2v2_upsample)
HAS(h2v1_upsample)
HAS(h2v2_fancy_upsample)
HAS(h2v1_fancy_upsample)
HAS(h2v2_merged_upsample)
HAS(h2v1_merged_upsample)
HAS(convsamp)
HAS(fdct_islow)
HAS(fdct_ifast)
HAS(quantize)
HAS(idct_2x2)
HAS(idct_4x4)
HAS(idct_islow)
HAS(idct_ifast)
HAS(huff_encode_one_block)
HAS(encode_mcu_AC_first_prepare)
HAS(encode_mcu_AC_refine_prepare)
#ifdef __x86_64__
HAS(convsamp_float)
HAS(fdct_float)
HAS(quantize_float)
HAS(idct_float)
#else
HAS(h1v2_fancy_upsample)
#endif

#undef HAS
#endif
