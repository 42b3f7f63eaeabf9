/* Undo PNG's Paeth filter on x86-64, faster than libpng's own functions, in place of intel/intel_init.c.
 *
 * The predictor of a byte is one of a (left), b (above) and c (above a). libpng computes three distances and two
 * selections, one after the other, for every pixel; each waits for the pixel before. Here:
 *
 * - the predictor is taken from one threshold (3c - b - a) and two comparisons that do not wait for each other
 *   (the form that stb_image uses); test_png_paeth compares it with the standard's for all 2^24 (a, b, c);
 * - where the filtered bytes are zero, nothing is computed: with a == c the predictor is b, so the row above is copied;
 *   with b == c it is a, so the left pixel is repeated. Plain areas of a screenshot are of this kind.
 */
#include "pngpriv.h"

#if PNG_INTEL_SSE_IMPLEMENTATION > 0

#include <smmintrin.h>
#include <stdint.h>
#include <string.h>

/* Four bytes, of which a pixel of three uses the first three. */
static inline uint32_t word_at(const png_byte *at)
{
   uint32_t value;
   memcpy(&value, at, 4);
   return value;
}

static inline uint32_t pixel_of(uint32_t word, size_t bpp)
{
   return bpp == 4 ? word : word & 0xffffff;
}

static inline __m128i lanes_of(uint32_t word)
{
   return _mm_cvtepu8_epi16(_mm_cvtsi32_si128((int)word));
}

static inline uint32_t word_of(__m128i lanes)
{
   return (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(lanes, lanes));
}

/* All ones in the lanes where one > other. In a vector it takes one cycle; the compiler would take AVX-512's mask
 * registers where there are any, which take four.
 */
static inline __m128i greater(__m128i one, __m128i other)
{
   __m128i mask;
   __asm__("vpcmpgtw %2, %1, %0" : "=x"(mask) : "x"(one), "x"(other));
   return mask;
}

/* What does not wait for the left pixel is computed first: without this the compiler takes another order of sums. */
#define READY(vector) __asm__("" : "+x"(vector))

/* Undo `pixels` pixels from `row` on. `a` and `c` are the pixels before, then the last ones. Reads whole words. */
static inline void chain(png_byte *row, const png_byte *prev, size_t pixels, size_t bpp, __m128i *a, __m128i *c)
{
   const __m128i one = _mm_set1_epi16(1);
   __m128i left = *a, corner = *c;

   for (size_t done = 0; done < pixels; ++done, row += bpp, prev += bpp)
   {
      __m128i above = lanes_of(word_at(prev));
      __m128i ahead = _mm_sub_epi16(_mm_add_epi16(corner, _mm_add_epi16(corner, corner)), above);
      __m128i more = _mm_add_epi16(ahead, one), less = _mm_sub_epi16(ahead, one);
      __m128i sum = _mm_add_epi8(lanes_of(word_at(row)), corner);
      __m128i low, high, to_low, to_high;
      uint32_t written;

      READY(more);
      READY(less);
      READY(sum);
      low = _mm_min_epi16(left, above);
      high = _mm_max_epi16(left, above);
      /* threshold >= high: low; threshold <= low: high; else c. Where both hold, all three are equal. */
      to_low = _mm_and_si128(greater(_mm_sub_epi16(more, left), high), _mm_sub_epi8(low, corner));
      to_high = _mm_and_si128(greater(low, _mm_sub_epi16(less, left)), _mm_sub_epi8(high, corner));
      left = _mm_add_epi8(sum, _mm_add_epi8(to_low, to_high)); /* of bytes: sums wrap at 256 */
      corner = above;
      written = word_of(left);
      memcpy(row, &written, bpp);
   }
   *a = left;
   *c = corner;
}

static inline __m128i load(const png_byte *at)
{
   return _mm_loadu_si128((const __m128i *)at);
}

static inline int equal(__m128i one, __m128i other)
{
   return _mm_movemask_epi8(_mm_cmpeq_epi8(one, other)) == 0xffff;
}

static inline void undo_paeth(png_row_infop row_info, png_bytep row, png_const_bytep prev, size_t bpp)
{
   /* Five pixels of three bytes or four of four: what one vector holds. */
   const size_t step = 16 / bpp, bytes = step * bpp;
   size_t left = row_info->rowbytes;
   __m128i a = _mm_setzero_si128(), c = a; /* The first pixel has no left one: its predictor is b, as of a = c = 0. */
   png_byte rest[16] = {0}, above[16] = {0};

   for (; left >= 16; row += bytes, prev += bytes, left -= bytes)
   {
      if (equal(load(row), _mm_setzero_si128()))
      {
         uint32_t last = pixel_of(word_of(a), bpp), corner = pixel_of(word_of(c), bpp);
         if (last == corner)
         {
            memcpy(row, prev, bytes);
            a = c = lanes_of(word_at(prev + bytes - bpp));
            continue;
         }
         if (corner == pixel_of(word_at(prev), bpp) && memcmp(prev, prev + bpp, bytes - bpp) == 0)
         {
            for (size_t done = 0; done < step; ++done)
               memcpy(row + done * bpp, &last, bpp);
            continue;
         }
      }
      chain(row, prev, step, bpp, &a, &c);
   }
   /* In buffers of our own, since a word read at the last pixel of three bytes would pass the row's end. */
   memcpy(rest, row, left);
   memcpy(above, prev, left);
   chain(rest, above, left / bpp, bpp, &a, &c);
   memcpy(row, rest, left);
}

static void undo_paeth3(png_row_infop row_info, png_bytep row, png_const_bytep prev)
{
   undo_paeth(row_info, row, prev, 3);
}

static void undo_paeth4(png_row_infop row_info, png_bytep row, png_const_bytep prev)
{
   undo_paeth(row_info, row, prev, 4);
}

/* What intel/intel_init.c of libpng defines, whose place this file takes: which function undoes which filter. */
void png_init_filter_functions_sse2(png_structp pp, unsigned int bpp)
{
   if (bpp == 3)
   {
      pp->read_filter[PNG_FILTER_VALUE_SUB - 1] = png_read_filter_row_sub3_sse2;
      pp->read_filter[PNG_FILTER_VALUE_AVG - 1] = png_read_filter_row_avg3_sse2;
      pp->read_filter[PNG_FILTER_VALUE_PAETH - 1] = undo_paeth3;
   }
   else if (bpp == 4)
   {
      pp->read_filter[PNG_FILTER_VALUE_SUB - 1] = png_read_filter_row_sub4_sse2;
      pp->read_filter[PNG_FILTER_VALUE_AVG - 1] = png_read_filter_row_avg4_sse2;
      pp->read_filter[PNG_FILTER_VALUE_PAETH - 1] = undo_paeth4;
   }
}

#endif
