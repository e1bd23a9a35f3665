/* stdio's streams on files in scope.
 *
 * A stream of libc's own reads and writes inside libc, where no hook sees it. So a stream on a file in scope is made by
 * fopencookie(3): buffering, formatting and locking stay libc's, and its reads, writes, seeks and its close come back
 * here and go through the hooks. Its buffer has libc's default size, not the file's block size. libc does not know its
 * descriptor, so fileno is answered from a table; fclose needs no hook, since it calls the close below.
 *
 * Streams elsewhere are libc's own. They are made by its functions, found behind ours with dlsym on the first use (none
 * of these symbols has more than one version). What cannot be followed taints a log: a stream re-targeted by freopen, and
 * one too many for the table.
 *
 * This is the only part of the shim that calls libc.
 */
#include "streams.h"

#include "carry.h"
#include "files.h"
#include "kernel.h"
#include "load.h"
#include "recorder.h"

enum { STREAM_COUNT = 512, CLOSE_ON_EXEC = 1 };

struct stream {
    _Atomic(void *) file; /* libc's FILE; NULL: free */
    int fd;
};

static struct stream streams[STREAM_COUNT];

static char taken; /* marks a stream that is being made */

struct cookie_functions {
    long (*read)(void *, char *, size_t);
    long (*write)(void *, const char *, size_t);
    int (*seek)(void *, int64_t *, int);
    int (*close)(void *);
};

#define WEAK __attribute__((weak))
WEAK void *fopencookie(void *cookie, const char *mode, struct cookie_functions functions);
WEAK int fileno_unlocked(void *stream);
WEAK void *dlsym(void *handle, const char *name);
WEAK const char *gnu_get_libc_version(void);

/* A function of libc that one of ours hides. */
union function {
    void *address;
    void *(*open)(const char *, const char *);
    void *(*open_descriptor)(int, const char *);
    void *(*reopen)(const char *, const char *, void *);
};

static union function next(const char *name)
{
    union function function = {NULL};
    if (dlsym != NULL) {
        function.address = dlsym((void *)-1L, name); /* RTLD_NEXT */
    }
    return function;
}

/* The open flags of a mode such as "r+" or "wxe"; -1 when it is none. */
static int flags_of(const char *mode)
{
    int access = 0;
    int more = 0;
    switch (mode[0]) {
    case 'r':
        access = O_RDONLY;
        break;
    case 'w':
        access = O_WRONLY;
        more = O_CREAT | O_TRUNC;
        break;
    case 'a':
        access = O_WRONLY;
        more = O_CREAT | O_APPEND;
        break;
    default:
        return -1;
    }
    for (const char *at = mode + 1; *at != '\0' && *at != ','; at++) {
        if (*at == '+') {
            access = O_RDWR;
        } else if (*at == 'x') {
            more |= O_EXCL;
        } else if (*at == 'e') {
            more |= O_CLOEXEC;
        }
    }
    return access | more;
}

static long stream_read(void *cookie, char *to, size_t size)
{
    return move_bytes(CALL_read, __NR_read, ((struct stream *)cookie)->fd, to, size, -1);
}

/* Goes on after a short write, as libc's own streams do. With an error in errno it returns less than `size`, which is
 * what glibc takes for one; a negative number would mislead it, and nothing else tells musl, which has no such version. */
static long stream_write(void *cookie, const char *from, size_t size)
{
    size_t done = 0;
    while (done < size) {
        const long moved =
            move_bytes(CALL_write, __NR_write, ((struct stream *)cookie)->fd, from + done, size - done, -1);
        if (moved < 0) {
            return gnu_get_libc_version == NULL ? -1 : (long)done;
        }
        done += (size_t)moved;
    }
    return (long)done;
}

static int stream_seek(void *cookie, int64_t *offset, int from)
{
    const long place = answer(kernel_seek(((struct stream *)cookie)->fd, *offset, from));
    if (place < 0) {
        return -1;
    }
    *offset = place;
    return 0;
}

static int stream_close(void *cookie)
{
    struct stream *stream = cookie;
    const int fd = stream->fd;
    atomic_store(&stream->file, NULL);
    return (int)close_file(CALL_close, fd);
}

/* Make a stream on `fd`; NULL, with `fd` left open, when there is no room or libc cannot. */
static void *make(int fd, const char *mode)
{
    const struct cookie_functions functions = {stream_read, stream_write, stream_seek, stream_close};
    for (unsigned i = 0; fopencookie != NULL && i < STREAM_COUNT; i++) {
        void *expected = NULL;
        if (atomic_compare_exchange_strong(&streams[i].file, &expected, &taken)) {
            streams[i].fd = fd;
            void *file = fopencookie(&streams[i], mode, functions);
            atomic_store(&streams[i].file, file);
            return file;
        }
    }
    return NULL;
}

/* A stream on a descriptor in scope: ours, or else libc's with a taint. */
static void *make_or_taint(int fd, const char *mode, const struct name *name)
{
    void *file = make(fd, mode);
    if (file == NULL) {
        const union function real = next("fdopen");
        file = real.address == NULL ? NULL : real.open_descriptor(fd, mode);
        record_taint(attached(), name, "a stream could not be followed");
    }
    return file;
}

void *stream_open(enum call call, const char *path, const char *mode)
{
    struct name name;
    const int flags = flags_of(mode);
    if (flags < 0 || !name_of_path(attached(), AT_FDCWD, path, &name)) {
        const union function real = next("fopen");
        return real.address == NULL ? (answer(-ENOSYS), NULL) : real.open(path, mode);
    }
    const int fd = (int)open_file(call, AT_FDCWD, path, flags, 0666);
    void *file = fd < 0 ? NULL : make_or_taint(fd, mode, &name);
    if (fd >= 0 && file == NULL) {
        kernel_close(fd);
        descriptor_forget(fd);
    }
    return file;
}

void *stream_of_descriptor(int fd, const char *mode)
{
    struct file file;
    const int flags = flags_of(mode);
    const long now = kernel(__NR_fcntl, fd, F_GETFL, 0, 0, 0, 0);
    if (flags < 0 || now < 0 || !file_of_descriptor(attached(), fd, &file)) {
        const union function real = next("fdopen");
        return real.address == NULL ? (answer(-ENOSYS), NULL) : real.open_descriptor(fd, mode);
    }
    const int wanted = flags & O_ACCMODE;
    const int present = (int)now & O_ACCMODE;
    if (present != O_RDWR && present != wanted) {
        answer(-EINVAL);
        return NULL;
    }
    if ((flags & O_APPEND) != 0 && (now & O_APPEND) == 0) {
        kernel(__NR_fcntl, fd, F_SETFL, now | O_APPEND, 0, 0, 0);
        descriptor_flags(fd, (uint32_t)(now | O_APPEND));
    }
    if ((flags & O_CLOEXEC) != 0) {
        kernel(__NR_fcntl, fd, F_SETFD, CLOSE_ON_EXEC, 0, 0, 0);
    }
    return make_or_taint(fd, mode, &file.name);
}

static struct stream *find(void *file)
{
    for (unsigned i = 0; i < STREAM_COUNT; i++) {
        if (atomic_load_explicit(&streams[i].file, memory_order_acquire) == file) {
            return &streams[i];
        }
    }
    return NULL;
}

void *stream_reopen(const char *path, const char *mode, void *file)
{
    struct name name;
    struct stream *stream = find(file);
    const union function real = next("freopen");
    const int inside = path != NULL && name_of_path(attached(), AT_FDCWD, path, &name);
    if (stream != NULL || inside) {
        record_taint(attached(), inside ? &name : NULL, "a stream was re-targeted by freopen");
    }
    return real.address == NULL ? (answer(-ENOSYS), NULL) : real.reopen(path, mode, file);
}

int stream_descriptor(void *file)
{
    const struct stream *stream = find(file);
    if (stream != NULL) {
        return stream->fd;
    }
    return fileno_unlocked == NULL ? (int)answer(-EBADF) : fileno_unlocked(file);
}
