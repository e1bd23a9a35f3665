/* Appending to the operation log.
 *
 * Each process holds the log open under a high number, where programs do not look, and appends with O_APPEND while it
 * holds the recording lock; so records lie in the order of their clocks, and a record that is written in two steps is
 * never torn by another. The descriptor is confirmed before each use by device and inode: a program may close it with a
 * raw system call (or libc inside posix_spawn) and open one of its own files under the same number, and a record in
 * there would be the worst that a recorder can do. When the confirmation fails, the log is opened anew. The same
 * happens after exec, which closes it. A forked child shares its parent's.
 *
 * What a process killed within its append leaves is cut off by whoever takes the lock next (lock.c): the control file
 * holds the length of the log's whole records. If nobody comes, readers ignore a torn end.
 */
#include "oplog.h"

#include "kernel.h"
#include "process.h"

#include <stdatomic.h>

enum { NUMBER_WANTED = 1000, PART_COUNT = 64, PART_FIRST_PAYLOAD = 3 };

/* This process's descriptor. Written under the recording lock only, except by log_leave. */
static _Atomic int descriptor = -1;
static uint64_t device;
static uint64_t inode;
static uint64_t recording;

/* Move `fd` to a high number; it stays where it is when the process may not have high numbers. */
static int move_up(int fd, long from)
{
    for (; from > fd; from /= 2) {
        const long moved = kernel(__NR_fcntl, fd, F_DUPFD_CLOEXEC, from, 0, 0, 0);
        if (moved >= 0) {
            kernel_close(fd);
            return (int)moved;
        }
    }
    return fd;
}

static bool is_ours(int fd)
{
    struct stat status;
    return fd >= 0 && kernel_fstat(fd, &status) == 0 && (uint64_t)status.st_dev == device &&
           (uint64_t)status.st_ino == inode;
}

static int log_descriptor(const struct control *control)
{
    int fd = atomic_load_explicit(&descriptor, memory_order_relaxed);
    const uint64_t wanted = atomic_load_explicit(&control->recording, memory_order_relaxed);
    const bool whole = is_ours(fd);
    if (whole && recording == wanted) {
        return fd;
    }
    if (whole) {
        kernel_close(fd); /* an earlier recording's */
    }
    struct stat status;
    const long opened = kernel_openat(AT_FDCWD, control->log, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    fd = opened < 0 ? -1 : move_up((int)opened, NUMBER_WANTED);
    if (fd >= 0 && kernel_fstat(fd, &status) == 0) {
        device = (uint64_t)status.st_dev;
        inode = (uint64_t)status.st_ino;
        recording = wanted;
    }
    atomic_store_explicit(&descriptor, fd, memory_order_relaxed);
    return fd;
}

int log_number(void)
{
    return atomic_load_explicit(&descriptor, memory_order_relaxed);
}

bool log_owns(int fd)
{
    return fd >= 0 && fd == atomic_load_explicit(&descriptor, memory_order_relaxed) && is_ours(fd);
}

void log_leave(int fd)
{
    if (log_owns(fd)) {
        const long moved = kernel(__NR_fcntl, fd, F_DUPFD_CLOEXEC, fd + 1, 0, 0, 0);
        atomic_store_explicit(&descriptor, moved < 0 ? -1 : (int)moved, memory_order_relaxed);
    }
}

/* Write all parts; false when the file system refuses. */
static bool write_parts(int fd, struct iovec *parts, int count)
{
    while (count > 0) {
        long done = kernel(__NR_writev, fd, (long)parts, count, 0, 0, 0);
        if (done <= 0 && done != -EINTR) {
            return false;
        }
        done = done < 0 ? 0 : done;
        while (count > 0 && (uint64_t)done >= parts->iov_len) {
            done -= (long)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + done;
            parts->iov_len -= (__kernel_size_t)done;
        }
    }
    return true;
}

/* Write the record: in one call unless its payload has very many parts. */
static bool write_record(int fd, const struct log_header *header, const struct log_entry *entry)
{
    struct iovec parts[PART_COUNT] = {
        {(void *)(uintptr_t)header, sizeof *header},
        {(void *)(uintptr_t)entry->name.bytes, (__kernel_size_t)entry->name.length},
        {(void *)(uintptr_t)entry->other.bytes, (__kernel_size_t)entry->other.length},
    };
    int count = PART_FIRST_PAYLOAD;
    uint64_t left = entry->payload_bytes;
    for (const struct iovec *part = entry->payload; left > 0; part++) {
        if (count == PART_COUNT) {
            if (!write_parts(fd, parts, count)) {
                return false;
            }
            count = 0;
        }
        parts[count] = *part;
        if (parts[count].iov_len > left) {
            parts[count].iov_len = (__kernel_size_t)left;
        }
        left -= parts[count].iov_len;
        count++;
    }
    return write_parts(fd, parts, count);
}

uint64_t log_append(struct control *control, const struct log_entry *entry)
{
    const struct log_header header = {
        .magic = LOG_MAGIC,
        .kind = (uint16_t)entry->kind,
        .header_bytes = sizeof header,
        .total_bytes = sizeof header + entry->name.length + entry->other.length + entry->payload_bytes,
        .clock = atomic_fetch_add(&control->clock, 1) + 1,
        .time_ns = kernel_now_ns(),
        .pid = own_identity().pid,
        .flags = entry->flags,
        .handle = entry->handle,
        .offset = entry->offset,
        .size = entry->size,
        .result = entry->result,
        .name_bytes = (uint32_t)entry->name.length,
        .other_bytes = (uint32_t)entry->other.length,
        .payload_bytes = entry->payload_bytes,
    };
    const int fd = log_descriptor(control);
    if (fd >= 0 && write_record(fd, &header, entry)) {
        atomic_fetch_add(&control->log_bytes, header.total_bytes);
    } else {
        atomic_fetch_add(&control->lost, 1);
        atomic_store(&control->recording, 0);
    }
    return header.clock;
}

void log_repair(struct control *control)
{
    const int fd = log_descriptor(control);
    if (fd >= 0) {
        kernel(__NR_ftruncate, fd, (long)atomic_load(&control->log_bytes), 0, 0, 0, 0);
    }
}

struct log_text log_text(const char *text)
{
    struct log_text result = {text, 0};
    while (text[result.length] != '\0') {
        result.length++;
    }
    return result;
}
