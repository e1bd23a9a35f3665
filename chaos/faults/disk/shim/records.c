/* The records of single kinds of operations; see records.h. */
#include "records.h"

#include "act.h"
#include "kernel.h"
#include "text.h"

enum { COPY_BYTES = 4096 };

struct log_text text_of(const struct name *name)
{
    return name == NULL ? (struct log_text){NULL, 0} : (struct log_text){name->text, name->length};
}

void append_taint(struct control *control, const struct name *name, const char *reason)
{
    const struct log_entry entry = {
        .kind = KIND_TAINT, .name = text_of(name), .other = log_text(reason), .offset = -1};
    log_append(control, &entry);
}

uint64_t append_named(struct control *control, const struct log_entry *entry, const struct name *name)
{
    if (name->length >= NAME_LENGTH_MAX) {
        append_taint(control, name, "a name is too long for a record");
    }
    return log_append(control, entry);
}

static int64_t size_of(int fd)
{
    struct stat status;
    return kernel_fstat(fd, &status) < 0 ? 0 : status.st_size;
}

/* Where a write that put down `written` bytes put them. */
static int64_t place_of(const struct operation *operation, int64_t written)
{
    const struct request *request = operation->request;
    const bool appended = (operation->opening.flags & O_APPEND) != 0 ||
                          (request->call == CALL_pwritev2 && (request->arguments[5] & PWRITEV2_APPEND) != 0);
    if (appended) {
        return size_of(operation->fd) - written; /* pwrite(2), BUGS: the offset given is ignored */
    }
    return operation->offset >= 0 ? operation->offset : kernel_seek(operation->fd, 0, SEEK_FROM_HERE) - written;
}

/* A write may be a sync as well, by its own flags or by those of the open file. */
static void record_synced_write(const struct operation *operation)
{
    const struct request *request = operation->request;
    const long call_flags = request->call == CALL_pwritev2 ? request->arguments[5] : 0;
    const uint32_t flags = operation->opening.flags;
    if ((flags & O_DSYNC) == 0 && (call_flags & (PWRITEV2_DSYNC | PWRITEV2_SYNC)) == 0) {
        return; /* O_SYNC includes the bit of O_DSYNC */
    }
    const bool whole = (flags & O_SYNC) == O_SYNC || (call_flags & PWRITEV2_SYNC) != 0;
    const struct log_entry entry = {
        .kind = KIND_SYNC,
        .flags = whole ? 0 : FLAG_DATA_ONLY,
        .handle = operation->opening.handle,
        .name = text_of(operation->name),
        .offset = -1,
    };
    log_append(operation->control, &entry);
}

/* Record bytes that never were in the program's memory: read them back from the file. */
static void record_copied(const struct operation *operation, struct log_entry *entry)
{
    char link[32];
    char bytes[COPY_BYTES];
    const uint64_t end = (uint64_t)entry->offset + (uint64_t)entry->result;
    text_add_number(link, text_add(link, 0, sizeof link, "/proc/self/fd/"), sizeof link, (uint32_t)operation->fd);
    const long fd = kernel_openat(AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    while ((uint64_t)entry->offset < end) {
        const uint64_t left = end - (uint64_t)entry->offset;
        const struct iovec part = {bytes, (__kernel_size_t)(left < sizeof bytes ? left : sizeof bytes)};
        entry->result =
            fd < 0 ? -1 : kernel(__NR_pread64, fd, (long)bytes, (long)part.iov_len, entry->offset, 0, 0);
        if (entry->result <= 0) {
            append_taint(operation->control, operation->name, "copied bytes could not be read back");
            break;
        }
        entry->size = (uint64_t)entry->result;
        entry->payload = &part;
        entry->payload_bytes = (uint64_t)entry->result;
        log_append(operation->control, entry);
        entry->offset += entry->result;
    }
    if (fd >= 0) {
        kernel_close((int)fd);
    }
}

void record_write(const struct operation *operation, struct log_entry *entry)
{
    const struct request *request = operation->request;
    const struct iovec whole = {(void *)request->arguments[1], (__kernel_size_t)operation->size};
    if (entry->result == 0) {
        return;
    }
    if ((entry->flags & FLAG_LIED) == 0) {
        entry->offset = place_of(operation, entry->result);
    }
    if (request->sizing == WHOLE) {
        record_copied(operation, entry);
        record_synced_write(operation);
        return;
    }
    entry->payload = request->sizing == VECTOR ? (const struct iovec *)request->arguments[1] : &whole;
    entry->payload_bytes = (uint64_t)entry->result;
    log_append(operation->control, entry);
    if ((entry->flags & FLAG_LIED) == 0) {
        record_synced_write(operation);
    }
}

void record_rename(const struct operation *operation, struct log_entry *entry)
{
    const struct request *request = operation->request;
    entry->flags = request->call == CALL_renameat2 ? (uint32_t)request->arguments[4] : 0;
    if (operation->other == NULL) {
        append_taint(operation->control, operation->name, "a file was renamed into the root or out of it");
    } else if ((entry->flags & RENAME_WHITEOUT_FLAG) != 0) {
        append_taint(operation->control, operation->name, "a rename left a whiteout");
    } else {
        append_named(operation->control, entry, operation->other);
    }
}

/* The descriptor that linkat was told to link: by an empty path, or by its link in /proc. */
static int linked_descriptor(const struct request *request)
{
    static const char folder[] = "/proc/self/fd/";
    const char *path = (const char *)request->arguments[1];
    int fd = 0;
    if (request->call == CALL_linkat && path[0] == '\0') {
        return (int)request->arguments[0];
    }
    for (size_t i = 0; i < sizeof folder - 1; i++) {
        if (path[i] != folder[i]) {
            return -1;
        }
    }
    for (path += sizeof folder - 1; *path >= '0' && *path <= '9'; path++) {
        fd = fd * 10 + (*path - '0');
    }
    return fd;
}

void record_link(const struct operation *operation, struct log_entry *entry)
{
    struct file file;
    if (operation->other != NULL) {
        append_named(operation->control, entry, operation->other);
        return;
    }
    const int fd = linked_descriptor(operation->request);
    if (fd >= 0 && file_of_descriptor(operation->control, fd, &file) &&
        file.opening.recording == atomic_load(&operation->control->recording)) {
        entry->handle = file.opening.handle;
        entry->name = (struct log_text){NULL, 0};
        entry->other = text_of(operation->name);
        append_named(operation->control, entry, operation->name);
    } else {
        append_taint(operation->control, operation->name, "a file got a name across the border of the root");
    }
}
