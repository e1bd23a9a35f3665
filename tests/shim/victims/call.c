/* A victim that makes one libc call several times and tells what it got.
 *
 * Usage: call SYMBOL SHAPE PATH COUNT. PATH names a file in a folder that exists. Prints a line "RESULT ERRNO" for
 * each call. Everything around the call is done by raw system calls, so that only the call itself meets the hooks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE 8

static char buffer[SIZE];
static struct iovec parts[2] = {{buffer, SIZE / 2}, {buffer + SIZE / 2, SIZE / 2}};

long raw(long number, long a, long b, long c, long d, long e, long f);
#define RAW(number, a, b, c, d) raw(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static int raw_open(const char *path)
{
    int fd = (int)RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    RAW(SYS_pwrite64, fd, "12345678", SIZE, 0L);
    return fd;
}

typedef int (*path_flags)(const char *, int, ...);
typedef int (*at_path_flags)(int, const char *, int, ...);
typedef long (*fd_buffer)(int, void *, size_t, ...);
typedef long (*fd_parts)(int, const struct iovec *, int, ...);
typedef int (*fd_only)(int);
typedef int (*fd_long)(int, long);
typedef int (*fd_long_long)(int, long, long);
typedef int (*two_paths)(const char *, const char *);
typedef int (*at_two_paths)(int, const char *, int, const char *, ...);

#define AS(type) ((type)symbol)
#define IS(name) (strcmp(shape, name) == 0)

static char new_path[4096];

/* -1 for the functions that return a pointer and returned none. */
static long pointer(void *result)
{
    return result == NULL ? -1 : 0;
}

static long make(void *symbol, const char *shape, const char *path, int folder, const char *name, int fd)
{
    char pattern[4096];
    long place = 0;
    snprintf(pattern, sizeof pattern, strstr(shape, "TEMPS") ? "%s-XXXXXX.t" : "%s-XXXXXX", path);
    if (IS("OPEN")) return AS(path_flags)(path, O_RDWR | O_CREAT, 0600);
    if (IS("OPEN_2")) return AS(path_flags)(path, O_RDWR);
    if (IS("OPENAT")) return AS(at_path_flags)(folder, name, O_RDWR | O_CREAT, 0600);
    if (IS("OPENAT_2")) return AS(at_path_flags)(folder, name, O_RDWR);
    if (IS("CREAT")) return AS(path_flags)(path, 0600);
    if (IS("READ")) return AS(fd_buffer)(fd, buffer, SIZE);
    if (IS("READ_CHK")) return AS(fd_buffer)(fd, buffer, SIZE, (size_t)SIZE);
    if (IS("PREAD")) return AS(fd_buffer)(fd, buffer, SIZE, 0L);
    if (IS("PREAD_CHK")) return AS(fd_buffer)(fd, buffer, SIZE, 0L, (size_t)SIZE);
    if (IS("WRITE")) return AS(fd_buffer)(fd, buffer, SIZE);
    if (IS("PWRITE")) return AS(fd_buffer)(fd, buffer, SIZE, 0L);
    if (IS("READV") || IS("WRITEV")) return AS(fd_parts)(fd, parts, 2);
    if (IS("PREADV") || IS("PWRITEV")) return AS(fd_parts)(fd, parts, 2, 0L);
    if (IS("PREADV2") || IS("PWRITEV2")) return AS(fd_parts)(fd, parts, 2, 0L, 0);
    if (IS("FSYNC") || IS("FDATASYNC") || IS("CLOSE")) return AS(fd_only)(fd);
    if (IS("SYNC_FILE_RANGE")) return ((int (*)(int, long, long, unsigned))symbol)(fd, 0, SIZE, 2);
    if (IS("FTRUNCATE")) return AS(fd_long)(fd, SIZE);
    if (IS("TRUNCATE")) return ((int (*)(const char *, long))symbol)(path, SIZE);
    if (IS("FALLOCATE")) return ((int (*)(int, int, long, long))symbol)(fd, 0, 0, SIZE);
    if (IS("POSIX_FALLOCATE")) return AS(fd_long_long)(fd, 0, SIZE);
    if (IS("RENAME")) return AS(two_paths)(path, new_path);
    if (IS("RENAMEAT")) return AS(at_two_paths)(folder, name, AT_FDCWD, new_path);
    if (IS("RENAMEAT2")) return AS(at_two_paths)(folder, name, AT_FDCWD, new_path, 0u);
    if (IS("UNLINK") || IS("REMOVE")) return ((int (*)(const char *))symbol)(path);
    if (IS("UNLINKAT")) return ((int (*)(int, const char *, int))symbol)(folder, name, 0);
    if (IS("RMDIR")) return ((int (*)(const char *))symbol)(path);
    if (IS("MKDIR")) return ((int (*)(const char *, unsigned))symbol)(path, 0700);
    if (IS("MKDIRAT")) return ((int (*)(int, const char *, unsigned))symbol)(folder, name, 0700);
    if (IS("LINK")) return AS(two_paths)(path, new_path);
    if (IS("LINKAT")) return AS(at_two_paths)(folder, name, AT_FDCWD, new_path, 0);
    if (IS("SYMLINK")) return AS(two_paths)("target", path);
    if (IS("SYMLINKAT")) return ((int (*)(const char *, int, const char *))symbol)("target", folder, name);
    if (IS("SYNCFS")) return AS(fd_only)(fd);
    if (IS("SENDFILE")) return ((long (*)(int, int, long *, size_t))symbol)(fd, fd, &place, SIZE / 2);
    if (IS("COPY_FILE_RANGE")) {
        long end = SIZE;
        return ((long (*)(int, long *, int, long *, size_t, unsigned))symbol)(fd, &place, fd, &end, SIZE, 0);
    }
    if (IS("MKSTEMP")) return ((int (*)(char *))symbol)(pattern);
    if (IS("MKOSTEMP")) return ((int (*)(char *, int))symbol)(pattern, 0);
    if (IS("MKSTEMPS")) return ((int (*)(char *, int))symbol)(pattern, 2);
    if (IS("MKOSTEMPS")) return ((int (*)(char *, int, int))symbol)(pattern, 2, 0);
    if (IS("MKDTEMP")) return pointer(((char *(*)(char *))symbol)(pattern));
    if (IS("FOPEN")) return pointer(((void *(*)(const char *, const char *))symbol)(path, "r+"));
    fprintf(stderr, "no such shape: %s\n", shape);
    exit(2);
}

int main(int count, char **arguments)
{
    if (count != 5) return 2;
    void *symbol = dlsym(RTLD_DEFAULT, arguments[1]);
    const char *shape = arguments[2];
    const char *path = arguments[3];
    if (symbol == NULL) {
        printf("absent\n");
        return 0;
    }
    char folder_path[4096];
    snprintf(folder_path, sizeof folder_path, "%s", path);
    snprintf(new_path, sizeof new_path, "%s.new", path);
    char *name = strrchr(folder_path, '/');
    *name++ = '\0';
    int folder = (int)RAW(SYS_openat, AT_FDCWD, folder_path, O_RDONLY | O_DIRECTORY, 0);
    for (int i = atoi(arguments[4]); i > 0; i--) {
        int fd = -1;
        RAW(SYS_unlinkat, AT_FDCWD, path, 0, 0);
        RAW(SYS_unlinkat, AT_FDCWD, new_path, 0, 0);
        RAW(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR, 0);
        if (IS("RMDIR")) {
            RAW(SYS_mkdirat, AT_FDCWD, path, 0700, 0);
        } else if (!IS("MKDIR") && !IS("MKDIRAT") && !IS("SYMLINK") && !IS("SYMLINKAT")) {
            fd = raw_open(path);
        }
        errno = 0;
        long result = make(symbol, shape, path, folder, name, fd);
        printf("%ld %d\n", result, errno);
        if (result > 2 && strncmp(shape, "OPEN", 4) == 0) RAW(SYS_close, result, 0, 0, 0);
        if (fd >= 0) RAW(SYS_close, fd, 0, 0, 0);
    }
    return 0;
}
