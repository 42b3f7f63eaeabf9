#ifdef PNG_FOUND
#include <png.h>
unsigned png_version(void) { return png_access_version_number(); }
#else
unsigned png_version(void) { return 0; }
#endif
