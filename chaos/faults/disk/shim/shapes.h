/* One wrapper body for each shape named in calls.def: `s` is the symbol, `c` the call that it counts as. */
#ifndef CHAOS_SHAPES_H
#define CHAOS_SHAPES_H

#define MODE(flags, mode)                  \
    unsigned mode = 0;                     \
    if (takes_mode(flags)) {               \
        va_list rest;                      \
        va_start(rest, flags);             \
        mode = va_arg(rest, unsigned);     \
        va_end(rest);                      \
    }

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
#define SHAPE_LINK(s, c) \
    int s(const char *old, const char *new) \
    { return (int)move_file(c, __NR_linkat, AT_FDCWD, old, AT_FDCWD, new, 0); }
#define SHAPE_LINKAT(s, c) \
    int s(int from, const char *old, int to, const char *new, int flags) \
    { return (int)move_file(c, __NR_linkat, from, old, to, new, (unsigned)flags); }
#define SHAPE_SYMLINK(s, c) \
    int s(const char *target, const char *path) { return (int)link_symbolically(c, target, AT_FDCWD, path); }
#define SHAPE_SYMLINKAT(s, c) \
    int s(const char *target, int folder, const char *path) \
    { return (int)link_symbolically(c, target, folder, path); }
#define SHAPE_SYNCFS(s, c) int s(int fd) { return (int)answer(on_descriptor(c, __NR_syncfs, fd, 0, 0, 0, -1, 0)); }
#define SHAPE_SENDFILE(s, c) \
    long s(int to, int from, long *place, size_t size) { return send_file(c, to, from, place, size); }
#define SHAPE_COPY_FILE_RANGE(s, c) \
    long s(int from, long *from_place, int to, long *to_place, size_t size, unsigned flags) \
    { return copy_range(c, from, from_place, to, to_place, size, flags); }
#define SHAPE_MKSTEMP(s, c) int s(char *pattern) { return temporary_file(c, pattern, 0, 0); }
#define SHAPE_MKOSTEMP(s, c) int s(char *pattern, int flags) { return temporary_file(c, pattern, 0, flags); }
#define SHAPE_MKSTEMPS(s, c) int s(char *pattern, int tail) { return temporary_file(c, pattern, tail, 0); }
#define SHAPE_MKOSTEMPS(s, c) \
    int s(char *pattern, int tail, int flags) { return temporary_file(c, pattern, tail, flags); }
#define SHAPE_MKDTEMP(s, c) char *s(char *pattern) { return temporary_folder(c, pattern); }
#define SHAPE_FOPEN(s, c) void *s(const char *path, const char *mode) { return stream_open(c, path, mode); }
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
#define SHAPE_FDOPEN(s) void *s(int fd, const char *mode) { return stream_of_descriptor(fd, mode); }
#define SHAPE_FREOPEN(s) \
    void *s(const char *path, const char *mode, void *stream) { return stream_reopen(path, mode, stream); }
#define SHAPE_FILENO(s) int s(void *stream) { return stream_descriptor(stream); }
#define SHAPE_SYNC(s) void s(void) { sync_all(); }
#define SHAPE_MMAP(s) \
    void *s(void *address, size_t size, int protection, int flags, int fd, long offset) \
    { return map_file(address, size, protection, flags, fd, offset); }
#define SHAPE_SPLICE(s) \
    long s(int from, long *from_place, int to, long *to_place, size_t size, unsigned flags) \
    { return splice_file(from, from_place, to, to_place, size, flags); }
#define SHAPE_OPEN_BY_HANDLE(s) \
    int s(int mount, void *handle, int flags) \
    { \
        const long arguments[6] = {mount, (long)handle, flags}; \
        return (int)open_unnamed(__NR_open_by_handle_at, arguments, (uint32_t)flags); \
    }
#define SHAPE_SYSCALL(s) \
    long s(long number, ...) \
    { \
        va_list rest; \
        long arguments[6]; \
        va_start(rest, number); \
        for (unsigned i = 0; i < 6; i++) { \
            arguments[i] = va_arg(rest, long); \
        } \
        va_end(rest); \
        return direct_call(number, arguments); \
    }

#endif
