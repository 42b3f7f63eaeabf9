/* Read a PNG file row by row: say a checksum of its pixels, and the warnings and the error that it ends in. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char said[4096];

static void say(const char *kind, const char *text)
{
   size_t length = strlen(said);
   snprintf(said + length, sizeof said - length, "%s: %s\n", kind, text);
}

static void failed(png_structp png, png_const_charp text)
{
   say("error", text);
   longjmp(png_jmpbuf(png), 1);
}

static void warned(png_structp png, png_const_charp text)
{
   say("warning", text);
}

/* The text holds until the next call. */
const char *read_png(const char *name)
{
   FILE *file = fopen(name, "rb");
   png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, failed, warned);
   png_infop info = png_create_info_struct(png);
   png_bytep volatile pixels = NULL;
   char result[80];

   said[0] = 0;
   if (file == NULL)
      return "no file";
   if (setjmp(png_jmpbuf(png)) == 0)
   {
      size_t bytes, height, sum = 5381;
      int passes;

      png_init_io(png, file);
      png_read_info(png, info);
      passes = png_set_interlace_handling(png);
      if (strstr(name, "-expand"))
         png_set_expand(png);
      png_read_update_info(png, info);
      bytes = png_get_rowbytes(png, info);
      height = png_get_image_height(png, info);
      pixels = calloc(height, bytes);
      for (int pass = 0; pass < passes; ++pass)
         for (size_t row = 0; row < height; ++row)
            png_read_row(png, pixels + row * bytes, NULL);
      for (size_t at = 0; at < height * bytes; ++at)
         sum = sum * 33 + pixels[at];
      snprintf(result, sizeof result, "%zu rows of %zu bytes, %zx", height, bytes, sum);
      say("read", result);
   }
   png_destroy_read_struct(&png, &info, NULL);
   free(pixels);
   fclose(file);
   return said;
}
