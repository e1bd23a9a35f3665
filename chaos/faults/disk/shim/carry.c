/* From libc's parameters to the kernel's, and back; see carry.h. */
#include "carry.h"

#include "kernel.h"

int *__errno_location(void);

/* Turn the kernel's answer into libc's. */
long answer(long result)
{
    if (result < 0 && result > -4096) {
        *__errno_location() = (int)-result;
        return -1;
    }
    return result;
}

/* The checked forms end the program when the buffer is too small, as libc's do. */
void demand(int holds)
{
    if (!holds) {
        kernel_signal_self(SIGNAL_ABORT);
        kernel_die();
    }
}

int takes_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

long open_file(enum call call, int folder, const char *path, int flags, unsigned mode)
{
    const struct request request = {call, WHOLE, __NR_openat, {folder, (long)path, flags, (long)mode, 0, 0}};
    return answer(act_open(&request, folder, path, (flags & O_TMPFILE) != O_TMPFILE));
}

long move_bytes(enum call call, long number, int fd, const void *buffer, size_t size, long offset)
{
    const struct request request = {call, BYTES, number, {fd, (long)buffer, (long)size, offset, 0, 0}};
    return answer(act_on_descriptor(&request, fd, offset, size));
}

/* The kernel wants the offset in two halves; on 64-bit machines the first holds it whole. */
long move_vector(enum call call, long number, int fd, const struct iovec *parts, int count, long offset,
                        int flags)
{
    const struct request request = {call, VECTOR, number, {fd, (long)parts, count, offset, 0, flags}};
    uint64_t size = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    return answer(act_on_descriptor(&request, fd, offset, size));
}

long on_descriptor(enum call call, long number, int fd, long b, long c, long d, int64_t offset, long size)
{
    const struct request request = {call, WHOLE, number, {fd, b, c, d, 0, 0}};
    return act_on_descriptor(&request, fd, offset, size > 0 ? (uint64_t)size : 0);
}

long on_path(enum call call, long number, int folder, const char *path, long argument)
{
    const struct request request = {call, WHOLE, number, {folder, (long)path, argument, 0, 0, 0}};
    return answer(act_on_path(&request, folder, path));
}

long on_path_alone(enum call call, long number, const char *path, long argument)
{
    const struct request request = {call, WHOLE, number, {(long)path, argument, 0, 0, 0, 0}};
    return answer(act_on_path(&request, AT_FDCWD, path));
}

long move_file(enum call call, long number, int from, const char *old, int to, const char *new, unsigned flags)
{
    const struct request request = {call, WHOLE, number, {from, (long)old, to, (long)new, (long)flags, 0}};
    return answer(act_on_two_paths(&request, from, old, to, new));
}

long close_file(enum call call, int fd)
{
    const struct request request = {call, WHOLE, __NR_close, {fd, 0, 0, 0, 0, 0}};
    return answer(act_close(&request, fd));
}

long copy_bytes(enum call call, long number, int to, const long *arguments, int64_t offset, size_t size)
{
    struct request request = {call, WHOLE, number, {0}};
    for (unsigned i = 0; i < 6; i++) {
        request.arguments[i] = arguments[i];
    }
    return answer(act_on_descriptor(&request, to, offset, size));
}

long link_symbolically(enum call call, const char *target, int folder, const char *path)
{
    const struct request request = {call, WHOLE, __NR_symlinkat, {(long)target, folder, (long)path, 0, 0, 0}};
    return answer(act_on_path(&request, folder, path));
}
