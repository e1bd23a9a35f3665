/* chaosfs: a preloaded library that hurts a program's files on purpose.
 *
 * What is hooked. Every libc symbol in calls.def: opening, reading, writing, syncing, cutting, allocating, renaming,
 * deleting and closing files, and the calls that copy descriptors. Each wrapper goes straight to the kernel; libc's own
 * version is never called. Only regular files and folders below one root are in scope. For anything else a wrapper
 * costs a look-up and the system call itself.
 *
 * What happens to a call in scope. It draws a number from the clock that all processes of the run share. Each armed
 * rule whose calls and glob match counts it, and those whose turn it is (from the nth match, `count` times) act:
 *   1. delay: the longest one sleeps, in slices, so that disarming the rule wakes it;
 *   2. kill: the process gets SIGKILL; the call is not executed;
 *   3. errno: the call is not executed, nothing reaches the file, and it fails; of several rules the lowest slot wins.
 *      A close is executed all the same, since Linux releases the descriptor whatever close reports;
 *   4. short: only the first bytes are really transferred, and their number is returned, without an error;
 *      full: transfers use up a budget of bytes, the one at its edge is cut short, the next ones fail with ENOSPC
 *      until the harness raises the budget or disarms the rule. Overwriting counts like growing, as on a file system
 *      that never writes in place; an allocation is granted whole or not at all;
 *   5. otherwise the call is executed as it came;
 *   6. count: a call that succeeded is counted; kill-after: then the process gets SIGKILL.
 * Rules 1 to 4 and kills leave a record in the control file before the call returns, or before the process dies.
 * errno is written only when the call fails, be it by the kernel's answer or by a rule.
 *
 * What a kill loses. What a real SIGKILL loses: the process's memory. Bytes that a write handed to the kernel stay,
 * synced or not, because the kernel lives on. Power loss is another fault, and not in this library.
 *
 * Names. A path is taken as spelled: made absolute from the working folder or the folder's descriptor, with "." and
 * ".." resolved, links not followed. A path that reaches the root through a link is therefore out of scope when the
 * call names it (open, rename, unlink ...), but the descriptor it opens is in scope, because the kernel is asked for
 * the real name on first use. A descriptor keeps the name under which it was opened, also after a rename. A folder's
 * descriptor has a name that ends in "/", so "sqlite/ *" (without the blank) covers the sync of that folder too.
 *
 * What is not modelled, because it does not pass these symbols:
 *   - stdio: fopen, fwrite and fflush call the kernel inside libc. So do mkstemp, opendir and the like; a descriptor
 *     that comes from them is in scope from its first use by a hooked call;
 *   - memory maps, msync, io_uring, sendfile, copy_file_range, splice, aio, syscall(), sync() and syncfs();
 *   - links, symbolic links, permissions, times, extended attributes, locks, stat in all its forms;
 *   - statically linked programs, which ignore LD_PRELOAD, set-user-id programs, which drop it, and programs started
 *     with a cleaned environment, when it loses LD_PRELOAD too. (With LD_PRELOAD but no CHAOS_SHIM_CONTROL they end,
 *     see load.c.) The harness therefore demands that each victim shows up in the control file's list of pids.
 * If libc closes a descriptor by itself (fclose) whose number was known to lie outside the root, and opens a file of
 * the root under the same number by itself (mkstemp), the shim goes on taking it for outside. Every other reuse is
 * noticed. posix_fallocate reports EOPNOTSUPP where glibc would write zeros instead. A transfer in scope is not a
 * cancellation point for pthread_cancel.
 *
 * Threads, forks, signals. There is no lock, no allocation and no call into libc on any path, so a hook may run in a
 * signal handler and in a child forked from a threaded program. All state but the descriptor table lies in the control
 * file. In a vfork child, which shares its parent's memory, copying descriptors only makes both forget; the table
 * asks the kernel again.
 */
#include "act.h"
#include "kernel.h"
#include "numbers.h"

#include <stdarg.h>

#define HOOK __attribute__((visibility("default")))

int *__errno_location(void);

/* Turn the kernel's answer into libc's. */
static long answer(long result)
{
    if (result < 0 && result > -4096) {
        *__errno_location() = (int)-result;
        return -1;
    }
    return result;
}

/* The checked forms end the program when the buffer is too small, as libc's do. */
static void demand(int holds)
{
    if (!holds) {
        kernel_signal_self(SIGNAL_ABORT);
        kernel_die();
    }
}

static int takes_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

static long open_file(enum call call, int folder, const char *path, int flags, unsigned mode)
{
    const struct request request = {call, WHOLE, __NR_openat, {folder, (long)path, flags, (long)mode, 0, 0}};
    return answer(act_open(&request, folder, path, (flags & O_TMPFILE) != O_TMPFILE));
}

static long move_bytes(enum call call, long number, int fd, const void *buffer, size_t size, long offset)
{
    const struct request request = {call, BYTES, number, {fd, (long)buffer, (long)size, offset, 0, 0}};
    return answer(act_on_descriptor(&request, fd, offset, size));
}

/* The kernel wants the offset in two halves; on 64-bit machines the first holds it whole. */
static long move_vector(enum call call, long number, int fd, const struct iovec *parts, int count, long offset,
                        int flags)
{
    const struct request request = {call, VECTOR, number, {fd, (long)parts, count, offset, 0, flags}};
    uint64_t size = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    return answer(act_on_descriptor(&request, fd, offset, size));
}

static long on_descriptor(enum call call, long number, int fd, long b, long c, long d, int64_t offset, long size)
{
    const struct request request = {call, WHOLE, number, {fd, b, c, d, 0, 0}};
    return act_on_descriptor(&request, fd, offset, size > 0 ? (uint64_t)size : 0);
}

static long on_path(enum call call, long number, int folder, const char *path, long argument)
{
    const struct request request = {call, WHOLE, number, {folder, (long)path, argument, 0, 0, 0}};
    return answer(act_on_path(&request, folder, path));
}

static long on_path_alone(enum call call, long number, const char *path, long argument)
{
    const struct request request = {call, WHOLE, number, {(long)path, argument, 0, 0, 0, 0}};
    return answer(act_on_path(&request, AT_FDCWD, path));
}

static long move_file(enum call call, long number, int from, const char *old, int to, const char *new, unsigned flags)
{
    const struct request request = {call, WHOLE, number, {from, (long)old, to, (long)new, (long)flags, 0}};
    return answer(act_on_two_paths(&request, from, old, to, new));
}

static long close_file(enum call call, int fd)
{
    const struct request request = {call, WHOLE, __NR_close, {fd, 0, 0, 0, 0, 0}};
    return answer(act_close(&request, fd));
}

#define MODE(flags, mode)                  \
    unsigned mode = 0;                     \
    if (takes_mode(flags)) {               \
        va_list rest;                      \
        va_start(rest, flags);             \
        mode = va_arg(rest, unsigned);     \
        va_end(rest);                      \
    }

/* One wrapper body for each shape named in calls.def. */
#define SHAPE_OPEN(s, c) \
    int s(const char *path, int flags, ...) \
    { MODE(flags, mode) return (int)open_file(c, AT_FDCWD, path, flags, mode); }
#define SHAPE_OPEN_2(s, c) \
    int s(const char *path, int flags) \
    { demand(!takes_mode(flags)); return (int)open_file(c, AT_FDCWD, path, flags, 0); }
#define SHAPE_OPENAT(s, c) \
    int s(int folder, const char *path, int flags, ...) \
    { MODE(flags, mode) return (int)open_file(c, folder, path, flags, mode); }
#define SHAPE_OPENAT_2(s, c) \
    int s(int folder, const char *path, int flags) \
    { demand(!takes_mode(flags)); return (int)open_file(c, folder, path, flags, 0); }
#define SHAPE_CREAT(s, c) \
    int s(const char *path, unsigned mode) \
    { return (int)open_file(c, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
#define SHAPE_READ(s, c) long s(int fd, void *to, size_t size) { return move_bytes(c, __NR_read, fd, to, size, -1); }
#define SHAPE_READ_CHK(s, c) \
    long s(int fd, void *to, size_t size, size_t room) \
    { demand(size <= room); return move_bytes(c, __NR_read, fd, to, size, -1); }
#define SHAPE_PREAD(s, c) \
    long s(int fd, void *to, size_t size, long offset) { return move_bytes(c, __NR_pread64, fd, to, size, offset); }
#define SHAPE_PREAD_CHK(s, c) \
    long s(int fd, void *to, size_t size, long offset, size_t room) \
    { demand(size <= room); return move_bytes(c, __NR_pread64, fd, to, size, offset); }
#define SHAPE_READV(s, c) \
    long s(int fd, const struct iovec *to, int count) { return move_vector(c, __NR_readv, fd, to, count, -1, 0); }
#define SHAPE_PREADV(s, c) \
    long s(int fd, const struct iovec *to, int count, long offset) \
    { return move_vector(c, __NR_preadv, fd, to, count, offset, 0); }
#define SHAPE_PREADV2(s, c) \
    long s(int fd, const struct iovec *to, int count, long offset, int flags) \
    { return move_vector(c, __NR_preadv2, fd, to, count, offset, flags); }
#define SHAPE_WRITE(s, c) \
    long s(int fd, const void *from, size_t size) { return move_bytes(c, __NR_write, fd, from, size, -1); }
#define SHAPE_PWRITE(s, c) \
    long s(int fd, const void *from, size_t size, long offset) \
    { return move_bytes(c, __NR_pwrite64, fd, from, size, offset); }
#define SHAPE_WRITEV(s, c) \
    long s(int fd, const struct iovec *from, int count) \
    { return move_vector(c, __NR_writev, fd, from, count, -1, 0); }
#define SHAPE_PWRITEV(s, c) \
    long s(int fd, const struct iovec *from, int count, long offset) \
    { return move_vector(c, __NR_pwritev, fd, from, count, offset, 0); }
#define SHAPE_PWRITEV2(s, c) \
    long s(int fd, const struct iovec *from, int count, long offset, int flags) \
    { return move_vector(c, __NR_pwritev2, fd, from, count, offset, flags); }
#define SHAPE_FSYNC(s, c) int s(int fd) { return (int)answer(on_descriptor(c, __NR_fsync, fd, 0, 0, 0, -1, 0)); }
#define SHAPE_FDATASYNC(s, c) \
    int s(int fd) { return (int)answer(on_descriptor(c, __NR_fdatasync, fd, 0, 0, 0, -1, 0)); }
#define SHAPE_SYNC_FILE_RANGE(s, c) \
    int s(int fd, long offset, long size, unsigned flags) \
    { return (int)answer(on_descriptor(c, __NR_sync_file_range, fd, offset, size, (long)flags, offset, size)); }
#define SHAPE_FTRUNCATE(s, c) \
    int s(int fd, long size) { return (int)answer(on_descriptor(c, __NR_ftruncate, fd, size, 0, 0, size, 0)); }
#define SHAPE_TRUNCATE(s, c) \
    int s(const char *path, long size) { return (int)on_path_alone(c, __NR_truncate, path, size); }
#define SHAPE_FALLOCATE(s, c) \
    int s(int fd, int mode, long offset, long size) \
    { return (int)answer(on_descriptor(c, __NR_fallocate, fd, mode, offset, size, offset, size)); }
#define SHAPE_POSIX_FALLOCATE(s, c) \
    int s(int fd, long offset, long size) \
    { return (int)-on_descriptor(c, __NR_fallocate, fd, 0, offset, size, offset, size); }
#define SHAPE_RENAME(s, c) \
    int s(const char *old, const char *new) \
    { return (int)move_file(c, __NR_renameat, AT_FDCWD, old, AT_FDCWD, new, 0); }
#define SHAPE_RENAMEAT(s, c) \
    int s(int from, const char *old, int to, const char *new) \
    { return (int)move_file(c, __NR_renameat, from, old, to, new, 0); }
#define SHAPE_RENAMEAT2(s, c) \
    int s(int from, const char *old, int to, const char *new, unsigned flags) \
    { return (int)move_file(c, __NR_renameat2, from, old, to, new, flags); }
#define SHAPE_UNLINK(s, c) int s(const char *path) { return (int)on_path(c, __NR_unlinkat, AT_FDCWD, path, 0); }
#define SHAPE_UNLINKAT(s, c) \
    int s(int folder, const char *path, int flags) { return (int)on_path(c, __NR_unlinkat, folder, path, flags); }
#define SHAPE_REMOVE(s, c) int s(const char *path) { return (int)on_path_alone(c, NUMBER_REMOVE, path, 0); }
#define SHAPE_RMDIR(s, c) \
    int s(const char *path) { return (int)on_path(c, __NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }
#define SHAPE_MKDIR(s, c) \
    int s(const char *path, unsigned mode) { return (int)on_path(c, __NR_mkdirat, AT_FDCWD, path, (long)mode); }
#define SHAPE_MKDIRAT(s, c) \
    int s(int folder, const char *path, unsigned mode) \
    { return (int)on_path(c, __NR_mkdirat, folder, path, (long)mode); }
#define SHAPE_CLOSE(s, c) int s(int fd) { return (int)close_file(c, fd); }
#define SHAPE_CLOSE_RANGE(s) \
    int s(unsigned first, unsigned last, int flags) { return (int)answer(numbers_close(first, last, flags)); }
#define SHAPE_CLOSEFROM(s) void s(int first) { (void)numbers_close(first < 0 ? 0 : (unsigned)first, ~0u, 0); }
#define SHAPE_DUP(s) int s(int fd) { return (int)answer(number_copy(fd)); }
#define SHAPE_DUP2(s) int s(int from, int to) { return (int)answer(number_copy_onto(from, to, 0, 1)); }
#define SHAPE_DUP3(s) int s(int from, int to, int flags) { return (int)answer(number_copy_onto(from, to, flags, 0)); }
#define SHAPE_FCNTL(s) \
    int s(int fd, int command, ...) \
    { \
        va_list rest; \
        va_start(rest, command); \
        const long argument = va_arg(rest, long); \
        va_end(rest); \
        return (int)answer(number_control(fd, command, argument)); \
    }

#define CALL(name, family, shape, manual, ...) HOOK SHAPE_##shape(name, CALL_##name)
#define SAME(symbol, name) HOOK extern __typeof__(name) symbol __attribute__((alias(#name)));
#define VARIANT(symbol, name, shape) HOOK SHAPE_##shape(symbol, CALL_##name)
#define TRACK(name, shape) HOOK SHAPE_##shape(name)
#include "calls.def"
