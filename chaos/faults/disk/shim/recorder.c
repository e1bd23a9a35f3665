/* Recording what the program's calls change.
 *
 * Between recording_begin and recording_end the call is executed, with the recording lock held (lock.c), so the numbers
 * of records have the order of effects. Only what succeeded is recorded. A descriptor is known to the log by the number
 * of the OPEN record that its open left; one that no hook opened (libc's own opens, descriptors inherited over exec or
 * received over a socket) is adopted at its first change: an ADOPT record says which file it is, by the name that the
 * kernel knows then.
 *
 * Opens are recorded under the kernel's name for the file, links resolved; the other calls that take paths under the
 * path as spelled. A rename across the border of the root, and a name longer than a record's, cannot be told and taint.
 */
#include "recorder.h"

#include "act.h"
#include "files.h"
#include "kernel.h"
#include "kinds.h"
#include "lock.h"

enum { STATUS_FLAGS = O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC };

static struct log_text text_of(const struct name *name)
{
    return name == NULL ? (struct log_text){NULL, 0} : (struct log_text){name->text, name->length};
}

static void taint(struct control *control, const struct name *name, const char *reason)
{
    const struct log_entry entry = {
        .kind = KIND_TAINT, .name = text_of(name), .other = log_text(reason), .offset = -1};
    log_append(control, &entry);
}

/* Append a record that names its file in full, or a taint when it cannot. */
static uint64_t append_named(struct control *control, const struct log_entry *entry, const struct name *name)
{
    if (name->length >= NAME_LENGTH_MAX) {
        taint(control, name, "a name is too long for a record");
    }
    return log_append(control, entry);
}

/* Let the log know an open file that it does not know yet. */
static void adopt(struct operation *operation, uint64_t number)
{
    struct stat status;
    struct name name;
    const long flags = kernel(__NR_fcntl, operation->fd, F_GETFL, 0, 0, 0, 0);
    if (kernel_fstat(operation->fd, &status) < 0 ||
        !name_of_open_file(operation->control, operation->fd, &status, &name)) {
        return;
    }
    const struct log_entry entry = {
        .kind = KIND_ADOPT,
        .flags = status.st_nlink == 0 ? FLAG_UNNAMED : 0,
        .name = text_of(&name),
        .offset = -1,
        .size = (uint64_t)status.st_size,
        .result = operation->fd,
    };
    const uint64_t handle = append_named(operation->control, &entry, &name);
    operation->opening = (struct opening){number, handle, flags < 0 ? 0 : (uint32_t)flags & STATUS_FLAGS};
    if (operation->fd >= 0) {
        descriptor_logged(operation->fd, &operation->opening);
    }
}

static void release(struct control *control, const struct recording *recording)
{
    atomic_store(&control->pending, recording->interrupted);
    if (!recording->nested) {
        recording_unlock(control);
    }
}

/* Take the lock for an operation of this kind; false, without it, when recording has ended. */
static bool begin(struct control *control, enum operation_kind kind, struct recording *recording)
{
    if (!is_recording(control)) {
        return false;
    }
    recording->kind = kind;
    recording->nested = !recording_lock(control);
    recording->number = atomic_load(&control->recording);
    recording->interrupted = atomic_load(&control->pending);
    if (recording->number == 0) { /* it ended while we waited */
        release(control, recording);
        return false;
    }
    return true;
}

bool recording_begin(struct operation *operation, struct recording *recording)
{
    if (operation->opening.recording != atomic_load(&operation->control->recording)) {
        operation->opening.handle = 0; /* an earlier log's */
    }
    const enum operation_kind kind = kind_of(operation);
    if (kind == KIND_NONE || !begin(operation->control, kind, recording)) {
        return false;
    }
    if (operation->fd >= 0 && operation->opening.handle == 0) {
        adopt(operation, recording->number);
    }
    atomic_store(&operation->control->pending, kind);
    return true;
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

static void record_write(const struct operation *operation, struct log_entry *entry)
{
    const struct request *request = operation->request;
    const struct iovec whole = {(void *)request->arguments[1], (__kernel_size_t)operation->size};
    if (entry->result == 0) {
        return;
    }
    if ((entry->flags & FLAG_LIED) == 0) {
        entry->offset = place_of(operation, entry->result);
    }
    entry->payload = request->sizing == VECTOR ? (const struct iovec *)request->arguments[1] : &whole;
    entry->payload_bytes = (uint64_t)entry->result;
    log_append(operation->control, entry);
    if ((entry->flags & FLAG_LIED) == 0) {
        record_synced_write(operation);
    }
}

/* Record an open under the kernel's name, and tell the descriptor's place in the log. */
static void record_open(struct control *control, uint64_t number, int fd, uint32_t flags, struct opening *opening)
{
    struct stat status;
    struct name name;
    if (kernel_fstat(fd, &status) < 0 || !name_of_open_file(control, fd, &status, &name)) {
        return; /* through a link to a place outside, or no file */
    }
    const struct log_entry entry = {
        .kind = KIND_OPEN, .flags = flags, .name = text_of(&name), .offset = -1, .result = fd};
    opening->handle = append_named(control, &entry, &name);
    opening->recording = number;
    opening->flags = flags & STATUS_FLAGS;
}

static void record_rename(const struct operation *operation, struct log_entry *entry)
{
    const struct request *request = operation->request;
    entry->flags = request->call == CALL_renameat2 ? (uint32_t)request->arguments[4] : 0;
    if (operation->other == NULL) {
        taint(operation->control, operation->name, "a file was renamed into the root or out of it");
    } else if ((entry->flags & RENAME_WHITEOUT_FLAG) != 0) {
        taint(operation->control, operation->name, "a rename left a whiteout");
    } else {
        append_named(operation->control, entry, operation->other);
    }
}

void recording_end(struct operation *operation, struct recording *recording, long result, uint32_t flags)
{
    struct control *control = operation->control;
    const long *arguments = operation->request->arguments;
    struct log_entry entry = {
        .kind = recording->kind,
        .flags = flags,
        .handle = operation->opening.handle,
        .name = text_of(operation->name),
        .other = text_of(operation->other),
        .offset = operation->offset,
        .size = operation->size,
        .result = result,
    };
    if (result < 0) {
        release(control, recording);
        return;
    }
    switch (recording->kind) {
    case KIND_OPEN:
        record_open(control, recording->number, (int)result, (uint32_t)arguments[2], &operation->opening);
        break;
    case KIND_WRITE:
        record_write(operation, &entry);
        break;
    case KIND_TRUNCATE:
        entry.offset = -1;
        entry.size = (uint64_t)arguments[1];
        append_named(control, &entry, operation->name);
        break;
    case KIND_ALLOCATE:
        entry.flags |= (uint32_t)arguments[1];
        log_append(control, &entry);
        break;
    case KIND_SYNC:
        entry.flags |= operation->request->call == CALL_fdatasync ? FLAG_DATA_ONLY : 0;
        log_append(control, &entry);
        break;
    case KIND_RENAME:
        record_rename(operation, &entry);
        break;
    default:
        append_named(control, &entry, operation->name);
        break;
    }
    release(control, recording);
}

void record_late_open(struct control *control, int fd, uint32_t flags)
{
    struct opening opening;
    struct recording recording;
    struct stat status;
    if (!changes_at_open(flags) || kernel_fstat(fd, &status) < 0 || (status.st_mode & MODE_TYPE) != MODE_FILE) {
        return;
    }
    if (begin(control, KIND_OPEN, &recording)) {
        record_open(control, recording.number, fd, flags, &opening);
        release(control, &recording);
    }
}

void record_event(struct control *control, enum operation_kind kind, const char *name)
{
    struct recording recording;
    const struct log_entry entry = {.kind = kind, .name = log_text(name), .offset = -1};
    if (begin(control, kind, &recording)) {
        log_append(control, &entry);
        release(control, &recording);
    }
}
