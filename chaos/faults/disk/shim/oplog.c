/* Appending to the operation log.
 *
 * Records go into the control file's `log_tail`, a ring that all processes of a run have mapped, and from there into the
 * log when the ring is full: a record costs no system call, and a page of the log is written with 63 others. The ring
 * outlives the processes. What it holds when the recording ends is written by the harness, which also cuts the log behind
 * the last whole record (control.py). All of it is done while the recording lock is held; so records lie in the order of
 * their clocks, and a record that is longer than the ring is not torn by another.
 *
 * Places are counted from the beginning of the log: `log_bytes` is the end of the last whole record, `log_written` of what
 * is in the file; byte p is at p modulo the ring's length. Each is moved after the bytes are there. So what a process
 * killed within its append leaves lies behind `log_bytes`, in the ring or in the file, and is overwritten by whoever takes
 * the lock next (lock.c). No descriptor is kept, which a program could close or take for its own.
 *
 * A signal handler may come while its own thread appends, and may change files itself. Its record goes straight into the
 * file, behind the one that is being appended (`log_behind`), and counts when that one does.
 */
#include "oplog.h"

#include "kernel.h"
#include "process.h"

#include <stdatomic.h>

__attribute__((weak)) int clock_gettime(int clock, struct __kernel_timespec *now);

/* Write the ring's bytes up to place `end` into the file; false when the file system refuses. */
static bool flush(struct control *control, uint64_t end)
{
    const int fd = (int)kernel_openat(AT_FDCWD, control->log, O_WRONLY | O_CLOEXEC, 0);
    uint64_t at = atomic_load(&control->log_written);
    while (fd >= 0 && at < end) {
        const uint64_t place = at % LOG_TAIL_BYTES;
        const uint64_t whole = end - at;
        const uint64_t size = whole < LOG_TAIL_BYTES - place ? whole : LOG_TAIL_BYTES - place;
        const long done =
            kernel(__NR_pwrite64, fd, (long)(control->log_tail + place), (long)size, (long)at, 0, 0);
        if (done <= 0 && done != -EINTR) {
            break;
        }
        at += done > 0 ? (uint64_t)done : 0;
        atomic_store(&control->log_written, at);
    }
    if (fd >= 0) {
        kernel_close(fd);
    }
    return at >= end;
}

static void copy(char *to, const char *from, uint64_t size)
{
#if defined(__x86_64__)
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t)) {
        uint64_t word;
        __builtin_memcpy(&word, from, sizeof word);
        __builtin_memcpy(to, &word, sizeof word);
        to += sizeof word;
        from += sizeof word;
    }
    for (; size > 0; size--) {
        *to++ = *from++;
    }
#endif
}

/* Put bytes into the log at place `*at`, and move on; false when there is no room. */
static bool put(struct control *control, uint64_t *at, const char *bytes, uint64_t size)
{
    while (size > 0) {
        const uint64_t place = *at % LOG_TAIL_BYTES;
        uint64_t room = LOG_TAIL_BYTES - (*at - atomic_load_explicit(&control->log_written, memory_order_relaxed));
        if (room == 0) {
            if (!flush(control, *at)) {
                return false;
            }
            room = LOG_TAIL_BYTES;
        }
        room = room < LOG_TAIL_BYTES - place ? room : LOG_TAIL_BYTES - place;
        room = room < size ? room : size;
        copy(control->log_tail + place, bytes, room);
        bytes += room;
        *at += room;
        size -= room;
    }
    return true;
}

/* The parts of a record, in order: header, names, payload. `next` returns false when there are no more. */
struct parts {
    const struct log_header *header;
    const struct log_entry *entry;
    const struct iovec *payload;
    uint64_t left;
    int number;
};

static bool next(struct parts *parts, const char **bytes, uint64_t *size)
{
    switch (parts->number++) {
    case 0:
        *bytes = (const char *)parts->header;
        *size = sizeof *parts->header;
        return true;
    case 1:
        *bytes = parts->entry->name.bytes;
        *size = parts->entry->name.length;
        return true;
    case 2:
        *bytes = parts->entry->other.bytes;
        *size = parts->entry->other.length;
        return true;
    default:
        if (parts->left == 0) {
            return false;
        }
        *bytes = parts->payload->iov_base;
        *size = parts->payload->iov_len < parts->left ? parts->payload->iov_len : parts->left;
        parts->left -= *size;
        parts->payload++;
        return true;
    }
}

/* Write a record into the file behind the one that this thread is appending; false when the file system refuses. */
static bool append_within(struct control *control, struct parts *parts)
{
    const char *bytes;
    uint64_t size;
    uint64_t at = atomic_load(&control->log_behind);
    const int fd = (int)kernel_openat(AT_FDCWD, control->log, O_WRONLY | O_CLOEXEC, 0);
    bool whole = fd >= 0;
    while (whole && next(parts, &bytes, &size)) {
        while (whole && size > 0) {
            const long done = kernel(__NR_pwrite64, fd, (long)bytes, (long)size, (long)at, 0, 0);
            whole = done > 0 || done == -EINTR;
            at += done > 0 ? (uint64_t)done : 0;
            bytes += done > 0 ? done : 0;
            size -= done > 0 ? (uint64_t)done : 0;
        }
    }
    if (fd >= 0) {
        kernel_close(fd);
    }
    if (whole) {
        atomic_store(&control->log_behind, at);
    }
    return whole;
}

/* Claim the next `size` bytes of the log, so that a handler's records go behind them; return the place behind. 0: handlers
 * came on both sides of the claim, and one has written behind a place that was the wrong one by then. */
static uint64_t claim(struct control *control, uint64_t size)
{
    for (;;) {
        const uint64_t at = atomic_load(&control->log_bytes);
        atomic_store(&control->log_behind, at + size);
        if (atomic_load(&control->log_bytes) == at) {
            return at + size;
        }
        if (atomic_load(&control->log_behind) != at + size) {
            return 0;
        }
    }
}

/* Put a record at the end of the log, and make it count; false when there is no room. */
static bool append(struct control *control, struct parts *parts)
{
    const char *bytes;
    uint64_t size;
    const uint64_t end = claim(control, parts->header->total_bytes);
    uint64_t at = end - parts->header->total_bytes;
    if (end == 0) {
        atomic_store(&control->log_behind, 0);
        return false;
    }
    while (next(parts, &bytes, &size)) {
        if (!put(control, &at, bytes, size)) {
            atomic_store(&control->log_behind, 0);
            return false;
        }
    }
    uint64_t behind = end;
    do {
        behind = atomic_load(&control->log_behind);
        if (behind != end) { /* a signal handler's records are in the file already */
            if (!flush(control, end)) {
                atomic_store(&control->log_behind, 0);
                return false;
            }
            atomic_store(&control->log_written, behind);
        }
        atomic_store(&control->log_bytes, behind);
    } while (!atomic_compare_exchange_strong(&control->log_behind, &behind, 0));
    return true;
}

/* A clock that needs no system call where libc has one. */
static uint64_t now_ns(void)
{
    struct __kernel_timespec now = {0, 0};
    if (clock_gettime == NULL || clock_gettime(CLOCK_STEADY, &now) != 0) {
        return kernel_now_ns();
    }
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t log_append(struct control *control, const struct log_entry *entry)
{
    const struct log_header header = {
        .magic = LOG_MAGIC,
        .kind = (uint16_t)entry->kind,
        .header_bytes = sizeof header,
        .total_bytes = sizeof header + entry->name.length + entry->other.length + entry->payload_bytes,
        .clock = atomic_fetch_add(&control->clock, 1) + 1,
        .time_ns = now_ns(),
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
    struct parts parts = {&header, entry, entry->payload, entry->payload_bytes, 0};
    const bool within = atomic_load(&control->log_behind) != 0;
    if (!(within ? append_within(control, &parts) : append(control, &parts))) {
        atomic_fetch_add(&control->lost, 1);
        atomic_store(&control->recording, 0);
    }
    return header.clock;
}

void log_repair(struct control *control)
{
    const uint64_t whole = atomic_load(&control->log_bytes);
    atomic_store(&control->log_behind, 0);
    if (atomic_load(&control->log_written) > whole) {
        atomic_store(&control->log_written, whole);
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
