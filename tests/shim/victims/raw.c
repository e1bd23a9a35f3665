/* A system call that no hook sees. libc's syscall() is hooked; this goes straight to the kernel, as static programs do.
 * Linked into victims, and a library for those in Python. */
#include "kernel.h"

long raw(long number, long a, long b, long c, long d, long e, long f);

long raw(long number, long a, long b, long c, long d, long e, long f)
{
    return kernel(number, a, b, c, d, e, f);
}
