/* Which calls change what; see kinds.h. */
#include "kinds.h"

#include "kernel.h"
#include "names.h"

bool changes_at_open(uint32_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

static bool is_folder(int folder, const char *path)
{
    struct stat status;
    return kernel(__NR_newfstatat, folder, (long)path, (long)&status, AT_SYMLINK_NOFOLLOW, 0, 0) == 0 &&
           (status.st_mode & MODE_TYPE) == MODE_FOLDER;
}

/* Opening a pipe waits for its other end, which must not happen under the lock; and a pipe's bytes are not a file's. */
static bool is_pipe(int folder, const char *path)
{
    struct stat status;
    return kernel(__NR_newfstatat, folder, (long)path, (long)&status, 0, 0, 0) == 0 &&
           (status.st_mode & MODE_TYPE) == MODE_PIPE;
}

enum operation_kind kind_of(const struct operation *operation)
{
    const struct request *request = operation->request;
    const long *arguments = request->arguments;
    switch (request->call) {
    case CALL_open:
    case CALL_openat:
    case CALL_creat:
    case CALL_fopen:
    case CALL_mkstemp:
    case CALL_mkostemp:
    case CALL_mkstemps:
    case CALL_mkostemps:
        return changes_at_open((uint32_t)arguments[2]) && !is_pipe((int)arguments[0], (const char *)arguments[1])
                   ? KIND_OPEN
                   : KIND_NONE;
    case CALL_read:
    case CALL_pread:
    case CALL_readv:
    case CALL_preadv:
    case CALL_preadv2:
        return KIND_NONE;
    case CALL_write:
    case CALL_pwrite:
    case CALL_writev:
    case CALL_pwritev:
    case CALL_pwritev2:
    case CALL_sendfile:
    case CALL_copy_file_range:
        return KIND_WRITE;
    case CALL_fsync:
    case CALL_fdatasync:
        return KIND_SYNC;
    case CALL_sync_file_range:
        return KIND_SYNC_RANGE;
    case CALL_ftruncate:
    case CALL_truncate:
        return KIND_TRUNCATE;
    case CALL_fallocate:
    case CALL_posix_fallocate:
        return KIND_ALLOCATE;
    case CALL_rename:
    case CALL_renameat:
    case CALL_renameat2:
        return KIND_RENAME;
    case CALL_unlink:
        return KIND_UNLINK;
    case CALL_unlinkat:
        return (arguments[2] & AT_REMOVEDIR) != 0 ? KIND_RMDIR : KIND_UNLINK;
    case CALL_remove:
        return is_folder(AT_FDCWD, (const char *)arguments[0]) ? KIND_RMDIR : KIND_UNLINK;
    case CALL_rmdir:
        return KIND_RMDIR;
    case CALL_mkdir:
    case CALL_mkdirat:
    case CALL_mkdtemp:
        return KIND_MKDIR;
    case CALL_syncfs:
        return KIND_SYNC_ALL;
    case CALL_link:
    case CALL_linkat:
        return KIND_LINK;
    case CALL_symlink:
    case CALL_symlinkat:
        return KIND_SYMLINK;
    case CALL_close:
        return operation->opening.handle != 0 ? KIND_CLOSE : KIND_NONE;
    case CALL_COUNT:
        break;
    }
    return KIND_NONE;
}
