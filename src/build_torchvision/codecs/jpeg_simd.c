/* libjpeg-turbo's vector functions, without its questions to the CPU: those of AVX2 on x86-64, of NEON on Arm.
 *
 * jsimd.c asks the CPU, and environment variables, in init_simd, and keeps the answer in a variable that begins with all
 * bits set. Here nothing calls init_simd, so that the variable is a constant to the compiler, and on x86-64 the functions
 * of SSE2 are left out. Where it is not one, the linker misses them.
 */
#define JPEG_HAS_SIMD_H /* whose answers the functions below are the long form of */
#include "jinclude.h"

#undef THREAD_LOCAL
#define THREAD_LOCAL

/* "init_simd(void)" defines never_void; "init_simd()" calls never_. */
#define init_simd(argument) never_##argument(argument)
static inline void never_(void) {}

#ifdef __x86_64__
#include "simd/x86_64/jsimd.c"
#else
#include "simd/arm/aarch64/jsimd.c"
#endif
