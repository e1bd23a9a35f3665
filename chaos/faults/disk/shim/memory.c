/* What compilers call to copy and to fill where they do not write it out: they may, of a C library or none.
 *
 * Hidden, so that the shim's own code binds to these and needs no libc for it. The empty assembly keeps the compiler from
 * seeing the loops for what they are and calling these functions from within themselves.
 */
#include <stddef.h>

#define STEP __asm__ volatile("" ::: "memory")

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    for (size_t i = 0; i < size; i++) {
        target[i] = source[i];
        STEP;
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    unsigned char *target = to;
    for (size_t i = 0; i < size; i++) {
        target[i] = (unsigned char)value;
        STEP;
    }
    return to;
}
