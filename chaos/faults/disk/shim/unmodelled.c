/* Calls that no rule can name, or that the log cannot follow in full.
 *
 * A map of a file that is shared and writable changes the file without a call: while a log is kept, it is tainted. The
 * exception is SQLite's "-shm" file, which recovery builds anew and which no crash state needs. splice is a taint too.
 * Copies between files are followed: the bytes are read back, while the recording lock is held, and recorded as writes.
 */
#include "unmodelled.h"

#include "carry.h"
#include "files.h"
#include "kernel.h"
#include "load.h"
#include "match.h"
#include "recorder.h"

enum { MAPPING_SHARED_VALIDATED = 3, MAPPING_TYPE = 15, PROTECTION_WRITE = 2 };

void sync_all(void)
{
    kernel(__NR_sync, 0, 0, 0, 0, 0, 0);
    record_event(attached(), KIND_SYNC_ALL, "");
}

static void taint_descriptor(int fd, const char *spared, const char *reason)
{
    struct file file;
    struct control *control = attached();
    if (is_recording(control) && file_of_descriptor(control, fd, &file) && !glob_matches(spared, file.name.text)) {
        record_taint(control, &file.name, reason);
    }
}

void *map_file(void *address, size_t size, int protection, int flags, int fd, long offset)
{
    const long result = kernel(__NR_mmap, (long)address, (long)size, protection, flags, fd, offset);
    const int type = flags & MAPPING_TYPE;
    const int shared = type == MAPPING_SHARED || type == MAPPING_SHARED_VALIDATED;
    if (fd >= 0 && shared && (protection & PROTECTION_WRITE) != 0 && !(result < 0 && result > -4096)) {
        taint_descriptor(fd, "*-shm", "a writable shared map changes a file without a call");
    }
    return (void *)answer(result);
}

long splice_file(int from, long *from_place, int to, long *to_place, size_t size, unsigned flags)
{
    const long result =
        kernel(__NR_splice, from, (long)from_place, to, (long)to_place, (long)size, (long)flags);
    if (result > 0) {
        taint_descriptor(to, "", "splice put bytes into a file");
    }
    return answer(result);
}

long open_unnamed(long number, const long *a, uint32_t flags)
{
    const long fd = kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (fd >= 0) {
        descriptor_forget((int)fd);
        record_late_open(attached(), (int)fd, flags);
    }
    return answer(fd);
}

long send_file(enum call call, int to, int from, long *place, size_t size)
{
    const long arguments[6] = {to, from, (long)place, (long)size, 0, 0};
    return copy_bytes(call, __NR_sendfile, to, arguments, -1, size);
}

long copy_range(enum call call, int from, long *from_place, int to, long *to_place, size_t size, unsigned flags)
{
    const long arguments[6] = {from, (long)from_place, to, (long)to_place, (long)size, (long)flags};
    return copy_bytes(call, __NR_copy_file_range, to, arguments, to_place == NULL ? -1 : *to_place, size);
}
