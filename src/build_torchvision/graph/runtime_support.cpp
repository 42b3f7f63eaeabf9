// What a compiler's startup files and newer runtime libraries would bring to a shared object, hidden inside it.
//
// With this object an extension needs no crtbeginS.o, no glibc beyond the one it is built for, and no libstdc++ symbol
// newer than manylinux allows. Linked into every extension that the pinned toolchain links.

#include <new>

extern "C" {

// Names this shared object to __cxa_atexit and __cxa_finalize (Itanium C++ ABI, 3.3.6).
__attribute__((visibility("hidden"))) void* __dso_handle = &__dso_handle;

void __cxa_finalize(void*);

// Run the destructors of static objects when the shared object is unloaded.
__attribute__((destructor, used)) static void finalize() { __cxa_finalize(&__dso_handle); }

#if __GLIBC_MINOR__ < 32
// glibc 2.32 sets it while a process has one thread, and libstdc++ then counts references without atomic instructions.
// Zero is always right: count atomically.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
#endif

// GLIBCXX_3.4.29, thrown by new[] for a size that overflows.
[[noreturn]] __attribute__((visibility("hidden"))) void throw_bad_array_new_length()
    __asm__("_ZSt28__throw_bad_array_new_lengthv");
void throw_bad_array_new_length() { throw std::bad_array_new_length(); }
}
