/* What libwebp asks a CPU for at run time, answered at compile time, in place of src/dsp/cpu.c.
 *
 * libwebp asks for vector code only where the compiler may write it, which every CPU of the ISA runs. With the answer
 * known, the plain C functions are not compiled. This comes first in the unit that holds all files that ask.
 */
#include "src/dsp/cpu.h"

static int has(CPUFeature feature) { return feature != kSlowSSSE3; }
static VP8CPUInfo every_cpu = has;
#define VP8GetCPUInfo every_cpu
