/* Compare our functions that undo PNG's Paeth filter with the standard's text (PNG, second edition, 9.4).
 *
 * Every (a, b, c) once, then rows of random, plain and mixed pixels of all lengths, with a byte after each row that
 * must stay. `paeth_differences` returns the number of rows that differ.
 */
#include "png_paeth.c"

#include <stdlib.h>

static int predicted(int a, int b, int c)
{
   int p = a + b - c, pa = abs(p - a), pb = abs(p - b), pc = abs(p - c);
   return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

static void undo_by_the_text(png_byte *row, const png_byte *prev, size_t bytes, size_t bpp)
{
   for (size_t i = 0; i < bytes; i++)
      row[i] += i < bpp ? predicted(0, prev[i], 0) : predicted(row[i - bpp], prev[i], prev[i - bpp]);
}

static int differs(png_byte *row, png_byte *prev, size_t bytes, size_t bpp)
{
   png_byte expected[1024];
   png_row_info info = {0};

   info.rowbytes = bytes;
   row[bytes] = 0x5a;
   memcpy(expected, row, bytes + 1);
   undo_by_the_text(expected, prev, bytes, bpp);
   (bpp == 3 ? undo_paeth3 : undo_paeth4)(&info, row, prev);
   return memcmp(expected, row, bytes + 1) != 0;
}

long paeth_differences(void)
{
   long differences = 0;
   png_byte row[1024], prev[1024];

   /* Four triples a row: the first pixel sets a and c, the second is predicted from them and its own b. */
   for (long triple = 0; triple < 1 << 24; triple += 4)
   {
      memset(row, 0, 24);
      for (int lane = 0; lane < 4; lane++)
      {
         long t = triple + lane;
         int a = t & 255, b = t >> 8 & 255, c = t >> 16;
         prev[lane] = (png_byte)c;
         prev[lane + 4] = (png_byte)b;
         row[lane] = (png_byte)(a - c);
         row[lane + 4] = (png_byte)t;
      }
      differences += differs(row, prev, 8, 4);
   }
   srand(1);
   for (int run = 0; run < 200000; run++)
   {
      size_t bpp = 3 + run % 2, bytes = (1 + rand() % 80) * bpp;
      int mode = rand() % 4;

      for (size_t i = 0; i < bytes; i++)
      {
         row[i] = (png_byte)(mode == 0 || rand() % (mode * 8) == 0 ? rand() : 0);
         prev[i] = (png_byte)(mode != 0 && i >= bpp && rand() % 9 ? prev[i - bpp] : rand() % 2 ? rand() : 7);
      }
      differences += differs(row, prev, bytes, bpp);
   }
   return differences;
}
