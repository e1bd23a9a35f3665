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

static int raw_open(const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    syscall(SYS_pwrite64, fd, "12345678", SIZE, 0L);
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

static long make(void *symbol, const char *shape, const char *path, int folder, const char *name, int fd)
{
    char new_path[4096];
    snprintf(new_path, sizeof new_path, "%s.new", path);
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
    char *name = strrchr(folder_path, '/');
    *name++ = '\0';
    int folder = (int)syscall(SYS_openat, AT_FDCWD, folder_path, O_RDONLY | O_DIRECTORY);
    for (int i = atoi(arguments[4]); i > 0; i--) {
        int fd = -1;
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
        if (IS("RMDIR")) {
            syscall(SYS_mkdirat, AT_FDCWD, path, 0700);
        } else if (!IS("MKDIR") && !IS("MKDIRAT")) {
            fd = raw_open(path);
        }
        errno = 0;
        long result = make(symbol, shape, path, folder, name, fd);
        printf("%ld %d\n", result, errno);
        if (result > 2 && strncmp(shape, "OPEN", 4) == 0) syscall(SYS_close, (int)result);
        if (fd >= 0) syscall(SYS_close, fd);
    }
    return 0;
}
