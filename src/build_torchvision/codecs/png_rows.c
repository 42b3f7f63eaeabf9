/* Inflate a PNG by many rows at once, and undo their filters where they are, in place of libpng's pngread.c.
 *
 * libpng asks zlib for one row at a time, copies it to undo the next one's filter with, and once more for its caller.
 * zlib's fast loop wants some hundred bytes of room before the end of what it may write, and what it has written is
 * copied into its window when it returns: rows of a small image are shorter than that room, and all of a large one are
 * copied. Here rows are inflated by up to AHEAD bytes, which is never more than the image has, so that what follows it is
 * checked as before, and a damaged file ends in an error as before.
 */
#define png_read_IDAT_data png_next_row
#define png_read_row png_read_any_row
#include "pngread.c"
#undef png_read_IDAT_data
#undef png_read_row

/* Two rows at least, or there is nothing to gain. Larger blocks would be taken from the system each time. */
#define AHEAD 65536

void png_read_IDAT_data(png_structrp pp, png_bytep output, png_alloc_size_t bytes); /* pngrutil.c's */
void png_read_row(png_structrp pp, png_bytep row, png_bytep display_row);

/* Have at least a row of `bytes` bytes, with its filter byte, at save_buffer_ptr.
 *
 * The fields are those that only the progressive reader uses; png_read_destroy frees save_buffer.
 */
static void inflate_rows(png_structrp pp, png_alloc_size_t bytes)
{
   png_alloc_size_t left = pp->num_rows - pp->row_number, rows = AHEAD / bytes;

   if (pp->save_buffer_size != 0)
      return;
   if (rows > left)
      rows = left;
   if (pp->save_buffer == NULL) /* The first rows are the most. */
      pp->save_buffer = png_malloc(pp, rows * bytes);
   png_read_IDAT_data(pp, pp->save_buffer, rows * bytes);
   pp->save_buffer_ptr = pp->save_buffer;
   pp->save_buffer_size = rows * bytes;
}

static int inflates_ahead(png_structrp pp, png_alloc_size_t bytes)
{
   return pp->interlaced == 0 && bytes <= AHEAD / 2;
}

/* What pngread.c calls for the next row: write `bytes` bytes, its filter byte first, to `row`. */
void png_next_row(png_structrp pp, png_bytep row, png_alloc_size_t bytes)
{
   if (!inflates_ahead(pp, bytes))
   {
      png_read_IDAT_data(pp, row, bytes);
      return;
   }
   inflate_rows(pp, bytes);
   memcpy(row, pp->save_buffer_ptr, bytes);
   pp->save_buffer_ptr += bytes;
   pp->save_buffer_size -= bytes;
}

void png_read_row(png_structrp pp, png_bytep row, png_bytep display_row)
{
#ifdef __x86_64__ /* Arm's filter functions write past the end of a row. */
   if (pp != NULL && row != NULL && display_row == NULL)
   {
      png_row_info info;
      png_alloc_size_t bytes;
      png_bytep at;

      if ((pp->flags & PNG_FLAG_ROW_INIT) == 0)
         png_read_start_row(pp);
      info.width = pp->iwidth;
      info.color_type = pp->color_type;
      info.bit_depth = pp->bit_depth;
      info.channels = pp->channels;
      info.pixel_depth = pp->pixel_depth;
      info.rowbytes = PNG_ROWBYTES(info.pixel_depth, info.width);
      bytes = info.rowbytes + 1;
      /* None of these changes after the first row. */
      if (inflates_ahead(pp, bytes) && pp->transformations == 0 && info.color_type != PNG_COLOR_TYPE_PALETTE &&
          info.bit_depth >= 8 && pp->mng_features_permitted == 0 && pp->read_row_fn == NULL &&
          (pp->mode & PNG_HAVE_IDAT) != 0)
      {
         inflate_rows(pp, bytes);
         at = pp->save_buffer_ptr;
         if (at[0] >= PNG_FILTER_VALUE_LAST)
            png_error(pp, "bad adaptive filter value");
         if (at[0] > PNG_FILTER_VALUE_NONE)
            png_read_filter_row(pp, &info, at + 1, (at == pp->save_buffer ? pp->prev_row : at - bytes) + 1, at[0]);
         memcpy(row, at + 1, info.rowbytes);
         pp->save_buffer_ptr += bytes;
         pp->save_buffer_size -= bytes;
         if (pp->save_buffer_size == 0) /* The next rows take its place. */
            memcpy(pp->prev_row, at, bytes);
         png_read_finish_row(pp);
         return;
      }
   }
#endif
   png_read_any_row(pp, row, display_row);
}
