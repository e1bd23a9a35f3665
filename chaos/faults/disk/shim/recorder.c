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
#include "doom.h"
#include "files.h"
#include "kernel.h"
#include "kinds.h"
#include "lock.h"
#include "records.h"

enum { STATUS_FLAGS = O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC };

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
    if (is_doomed(control)) {
        kernel_die(); /* the lock goes to the next; nothing was begun */
    }
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
    if ((flags & O_DIRECT) != 0) {
        append_taint(control, &name, "O_DIRECT passes the page cache by");
    }
    opening->handle = append_named(control, &entry, &name);
    opening->recording = number;
    opening->flags = flags & STATUS_FLAGS;
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
    case KIND_LINK:
        record_link(operation, &entry);
        break;
    case KIND_SYMLINK:
        entry.other = log_text((const char *)arguments[0]);
        append_named(control, &entry, operation->name);
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

void record_taint(struct control *control, const struct name *name, const char *reason)
{
    struct recording recording;
    if (begin(control, KIND_TAINT, &recording)) {
        append_taint(control, name, reason);
        release(control, &recording);
    }
}

void record_failed_sync(struct operation *operation, uint32_t flags)
{
    struct recording recording;
    if (is_recording(operation->control) && recording_begin(operation, &recording)) {
        const struct log_entry entry = {
            .kind = KIND_SYNC_FAILED,
            .flags = flags,
            .handle = operation->opening.handle,
            .name = text_of(operation->name),
            .offset = -1,
        };
        log_append(operation->control, &entry);
        release(operation->control, &recording);
    }
}
