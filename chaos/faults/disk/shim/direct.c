/* libc's syscall(): a system call by number is taken for the libc call of that name.
 *
 * Only calls that reach files are looked at, everything else goes to the kernel as it came. The machine's own numbers
 * decide which of the older calls (open, rename ...) there are. io_uring, which works without system calls once it is
 * set up, taints a log.
 */
#include "direct.h"

#include "carry.h"
#include "kernel.h"
#include "load.h"
#include "numbers.h"
#include "recorder.h"
#include "temporary.h"
#include "unmodelled.h"

/* The calls that only machines with a history have. */
static int older_call(long number, const long *a, long *result)
{
#ifdef __NR_open
    const char *path = (const char *)a[0];
    switch (number) {
    case __NR_open:
        *result = open_file(CALL_open, AT_FDCWD, path, (int)a[1], (unsigned)a[2]);
        return 1;
    case __NR_creat:
        *result = open_file(CALL_creat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, (unsigned)a[1]);
        return 1;
    case __NR_unlink:
        *result = on_path(CALL_unlink, __NR_unlinkat, AT_FDCWD, path, 0);
        return 1;
    case __NR_rmdir:
        *result = on_path(CALL_rmdir, __NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
        return 1;
    case __NR_mkdir:
        *result = on_path(CALL_mkdir, __NR_mkdirat, AT_FDCWD, path, a[1]);
        return 1;
    case __NR_rename:
        *result = move_file(CALL_rename, __NR_renameat, AT_FDCWD, path, AT_FDCWD, (const char *)a[1], 0);
        return 1;
    case __NR_link:
        *result = move_file(CALL_link, __NR_linkat, AT_FDCWD, path, AT_FDCWD, (const char *)a[1], 0);
        return 1;
    case __NR_symlink:
        *result = link_symbolically(CALL_symlink, path, AT_FDCWD, (const char *)a[1]);
        return 1;
    case __NR_dup2:
        *result = answer(number_copy_onto((int)a[0], (int)a[1], 0, 1));
        return 1;
    default:
        break;
    }
#endif
    (void)number;
    (void)a;
    (void)result;
    return 0;
}

/* Calls on descriptors. */
static int descriptor_call(long number, const long *a, long *result)
{
    const int fd = (int)a[0];
    switch (number) {
    case __NR_read:
        *result = move_bytes(CALL_read, number, fd, (void *)a[1], (size_t)a[2], -1);
        return 1;
    case __NR_pread64:
        *result = move_bytes(CALL_pread, number, fd, (void *)a[1], (size_t)a[2], a[3]);
        return 1;
    case __NR_write:
        *result = move_bytes(CALL_write, number, fd, (void *)a[1], (size_t)a[2], -1);
        return 1;
    case __NR_pwrite64:
        *result = move_bytes(CALL_pwrite, number, fd, (void *)a[1], (size_t)a[2], a[3]);
        return 1;
    case __NR_readv:
        *result = move_vector(CALL_readv, number, fd, (const struct iovec *)a[1], (int)a[2], -1, 0);
        return 1;
    case __NR_writev:
        *result = move_vector(CALL_writev, number, fd, (const struct iovec *)a[1], (int)a[2], -1, 0);
        return 1;
    case __NR_preadv:
        *result = move_vector(CALL_preadv, number, fd, (const struct iovec *)a[1], (int)a[2], a[3], 0);
        return 1;
    case __NR_pwritev:
        *result = move_vector(CALL_pwritev, number, fd, (const struct iovec *)a[1], (int)a[2], a[3], 0);
        return 1;
    case __NR_preadv2:
        *result = move_vector(CALL_preadv2, number, fd, (const struct iovec *)a[1], (int)a[2], a[3], (int)a[5]);
        return 1;
    case __NR_pwritev2:
        *result = move_vector(CALL_pwritev2, number, fd, (const struct iovec *)a[1], (int)a[2], a[3], (int)a[5]);
        return 1;
    case __NR_fsync:
        *result = answer(on_descriptor(CALL_fsync, number, fd, 0, 0, 0, -1, 0));
        return 1;
    case __NR_fdatasync:
        *result = answer(on_descriptor(CALL_fdatasync, number, fd, 0, 0, 0, -1, 0));
        return 1;
    case __NR_syncfs:
        *result = answer(on_descriptor(CALL_syncfs, number, fd, 0, 0, 0, -1, 0));
        return 1;
    case __NR_sync_file_range:
        *result = answer(on_descriptor(CALL_sync_file_range, number, fd, a[1], a[2], a[3], a[1], a[2]));
        return 1;
    case __NR_ftruncate:
        *result = answer(on_descriptor(CALL_ftruncate, number, fd, a[1], 0, 0, a[1], 0));
        return 1;
    case __NR_fallocate:
        *result = answer(on_descriptor(CALL_fallocate, number, fd, a[1], a[2], a[3], a[2], a[3]));
        return 1;
    case __NR_sendfile:
        *result = send_file(CALL_sendfile, fd, (int)a[1], (long *)a[2], (size_t)a[3]);
        return 1;
    case __NR_copy_file_range:
        *result = copy_range(CALL_copy_file_range, fd, (long *)a[1], (int)a[2], (long *)a[3], (size_t)a[4],
                             (unsigned)a[5]);
        return 1;
    case __NR_splice:
        *result = splice_file(fd, (long *)a[1], (int)a[2], (long *)a[3], (size_t)a[4], (unsigned)a[5]);
        return 1;
    default:
        return 0;
    }
}

/* Calls on names, and the rest. */
static int name_call(long number, const long *a, long *result)
{
    const char *path = (const char *)a[1];
    switch (number) {
    case __NR_openat:
        *result = open_file(CALL_openat, (int)a[0], path, (int)a[2], (unsigned)a[3]);
        return 1;
    case __NR_openat2: /* flags lead its structure */
        *result = open_unnamed(number, a, (uint32_t) * (const uint64_t *)a[2]);
        return 1;
    case __NR_truncate:
        *result = on_path_alone(CALL_truncate, number, (const char *)a[0], a[1]);
        return 1;
    case __NR_unlinkat:
        *result = on_path(CALL_unlinkat, number, (int)a[0], path, a[2]);
        return 1;
    case __NR_mkdirat:
        *result = on_path(CALL_mkdirat, number, (int)a[0], path, a[2]);
        return 1;
#ifdef __NR_renameat
    case __NR_renameat:
        *result = move_file(CALL_renameat, number, (int)a[0], path, (int)a[2], (const char *)a[3], 0);
        return 1;
#endif
    case __NR_renameat2:
        *result = move_file(CALL_renameat2, number, (int)a[0], path, (int)a[2], (const char *)a[3], (unsigned)a[4]);
        return 1;
    case __NR_linkat:
        *result = move_file(CALL_linkat, number, (int)a[0], path, (int)a[2], (const char *)a[3], (unsigned)a[4]);
        return 1;
    case __NR_symlinkat:
        *result = link_symbolically(CALL_symlinkat, (const char *)a[0], (int)a[1], (const char *)a[2]);
        return 1;
    case __NR_sync:
        sync_all();
        *result = 0;
        return 1;
    case __NR_mmap:
        *result = (long)map_file((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
        return 1;
    case __NR_open_by_handle_at:
        *result = open_unnamed(number, a, (uint32_t)a[2]);
        return 1;
    default:
        return 0;
    }
}

/* Calls that only move descriptors. */
static int number_call(long number, const long *a, long *result)
{
    switch (number) {
    case __NR_close:
        *result = close_file(CALL_close, (int)a[0]);
        return 1;
    case __NR_close_range:
        *result = answer(numbers_close((unsigned)a[0], (unsigned)a[1], (int)a[2]));
        return 1;
    case __NR_dup:
        *result = answer(number_copy((int)a[0]));
        return 1;
    case __NR_dup3:
        *result = answer(number_copy_onto((int)a[0], (int)a[1], (int)a[2], 0));
        return 1;
    case __NR_fcntl:
        *result = answer(number_control((int)a[0], (int)a[1], a[2]));
        return 1;
    case __NR_io_uring_setup:
        record_taint(attached(), NULL, "io_uring changes files without calls");
        return 0;
    default:
        return 0;
    }
}

long direct_call(long number, const long *a)
{
    long result;
    if (number == __NR_futex) { /* by far the most frequent: languages with locks of their own */
        return answer(kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    if (descriptor_call(number, a, &result) || name_call(number, a, &result) || number_call(number, a, &result) ||
        older_call(number, a, &result)) {
        return result;
    }
    return answer(kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
