/* System calls without libc: x86-64 and AArch64. Each returns what the kernel returns: negative errno on failure.
 *
 * Going straight to the kernel spares the shim dlsym (which may pick an older symbol version), recursion into its
 * own hooks, and any need to be linked against a particular libc.
 */
#ifndef CHAOS_KERNEL_H
#define CHAOS_KERNEL_H

#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/time_types.h>
#include <linux/uio.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)

static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

static inline long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#else
#error "the file shim knows x86-64 and AArch64 only"
#endif

/* Values of the kernel's interface that no header without libc's own names. */
enum { SIGNAL_ABORT = 6, SIGNAL_KILL = 9, CLOCK_STEADY = 1, PROTECTION_READ_WRITE = 3, MAPPING_SHARED = 1 };
enum { MAPPING_PRIVATE_ANONYMOUS = 0x22, ADVICE_WIPE_ON_FORK = 18, FUTEX_WAIT_SHARED = 0, FUTEX_WAKE_SHARED = 1 };
enum { SEEK_FROM_HERE = 1, PWRITEV2_DSYNC = 2, PWRITEV2_SYNC = 4, PWRITEV2_APPEND = 16, RENAME_WHITEOUT_FLAG = 4 };

static inline long kernel_openat(int folder, const char *path, int flags, unsigned mode)
{
    return kernel(__NR_openat, folder, (long)path, flags, (long)mode, 0, 0);
}

static inline long kernel_close(int fd)
{
    return kernel(__NR_close, fd, 0, 0, 0, 0, 0);
}

static inline long kernel_read(int fd, void *buffer, size_t size)
{
    return kernel(__NR_read, fd, (long)buffer, (long)size, 0, 0, 0);
}

static inline long kernel_write(int fd, const void *buffer, size_t size)
{
    return kernel(__NR_write, fd, (long)buffer, (long)size, 0, 0, 0);
}

static inline long kernel_fstat(int fd, struct stat *status)
{
    return kernel(__NR_fstat, fd, (long)status, 0, 0, 0, 0);
}

static inline long kernel_seek(int fd, long offset, int from)
{
    return kernel(__NR_lseek, fd, offset, from, 0, 0, 0);
}

static inline long kernel_readlink(const char *path, char *buffer, size_t size)
{
    return kernel(__NR_readlinkat, AT_FDCWD, (long)path, (long)buffer, (long)size, 0, 0);
}

/* Returns the length with its NUL. */
static inline long kernel_getcwd(char *buffer, size_t size)
{
    return kernel(__NR_getcwd, (long)buffer, (long)size, 0, 0, 0, 0);
}

static inline uint32_t kernel_getpid(void)
{
    return (uint32_t)kernel(__NR_getpid, 0, 0, 0, 0, 0, 0);
}

static inline uint64_t kernel_now_ns(void)
{
    struct __kernel_timespec now = {0, 0};
    kernel(__NR_clock_gettime, CLOCK_STEADY, (long)&now, 0, 0, 0, 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* May return early on a signal; the caller looks at the clock again. */
static inline void kernel_sleep_ns(uint64_t nanoseconds)
{
    struct __kernel_timespec span;
    span.tv_sec = (long long)(nanoseconds / UINT64_C(1000000000));
    span.tv_nsec = (long long)(nanoseconds % UINT64_C(1000000000));
    kernel(__NR_nanosleep, (long)&span, 0, 0, 0, 0, 0);
}

static inline void kernel_signal_self(int number)
{
    kernel(__NR_kill, (long)kernel_getpid(), number, 0, 0, 0, 0);
}

/* End the process at once by SIGKILL: no handler, no atexit, no flush. */
static inline _Noreturn void kernel_die(void)
{
    for (;;) {
        kernel_signal_self(SIGNAL_KILL);
        kernel_sleep_ns(UINT64_C(1000000000));
    }
}

#endif
