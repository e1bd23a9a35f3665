/* What a file held before it was changed, so that a failed sync can bring it back.
 *
 * Some file systems (btrfs) answer a failed writeback by letting reads see the old bytes again, and by giving the file its
 * old length; the position of a descriptor stays where the write has moved it. For a rule that asks for this, the bytes
 * under each write, cut and allocation of a matching file are kept, in memory of the process that made it, until the file
 * is synced. A failed sync puts them back, the last change first. With an operation log the putting back is recorded as
 * the writes that it consists of, and then all of it is dropped: none of it will ever be durable.
 *
 * What is not brought back: changes made before the rule was armed, those of another process, and what an open with
 * O_TRUNC took. When the room is full, the rule does not act until every file has been synced.
 *
 * The recording lock is held throughout, log or no log, so a change and what is kept of it belong together.
 */
#include "revert.h"

#include "kernel.h"
#include "recorder.h"
#include "text.h"

#include <stddef.h>

enum { BEFORE_COUNT = 4096, ROOM_BYTES = 64 << 20, LINK_BYTES = 32 };

/* What one change took: `bytes` bytes at `place`, kept from `kept` on; the file was `length` bytes long. */
struct before {
    uint64_t device;
    uint64_t inode;
    int64_t place;
    uint64_t bytes;
    uint64_t length;
    uint64_t kept;
};

static struct before befores[BEFORE_COUNT];
static unsigned before_count;
static unsigned char *room;
static uint64_t room_used;
static bool overflowed; /* some change could not be kept; until nothing is kept any more, nothing is brought back */

static unsigned char *room_begin(void)
{
    if (room == NULL) {
        const long address =
            kernel(__NR_mmap, 0, ROOM_BYTES, PROTECTION_READ_WRITE, MAPPING_PRIVATE_ANONYMOUS, -1, 0);
        room = address > 0 ? (unsigned char *)address : NULL;
    }
    return room;
}

/* Open the file of an operation once more, whatever its descriptor was opened for; negative when that fails. */
static int open_again(const struct operation *operation, int flags)
{
    char link[LINK_BYTES];
    if (operation->fd < 0) {
        return (int)kernel_openat(AT_FDCWD, (const char *)operation->request->arguments[0], flags | O_CLOEXEC, 0);
    }
    text_add_number(link, text_add(link, 0, sizeof link, "/proc/self/fd/"), sizeof link, (uint32_t)operation->fd);
    return (int)kernel_openat(AT_FDCWD, link, flags | O_CLOEXEC, 0);
}

/* Which bytes the call may change, from `place` on, of a file of `length` bytes. */
static uint64_t extent(const struct operation *operation, uint64_t length, int64_t *place)
{
    const enum call call = operation->request->call;
    uint64_t end;
    if (call == CALL_ftruncate || call == CALL_truncate) {
        *place = operation->request->arguments[1];
        end = length;
    } else {
        *place = operation->request->sizing == WHOLE ? operation->offset : place_before(operation);
        end = *place < 0 ? 0 : (uint64_t)*place + operation->size;
    }
    end = end < length ? end : length;
    return *place >= 0 && (uint64_t)*place < end ? end - (uint64_t)*place : 0;
}

static bool read_all(int fd, unsigned char *bytes, uint64_t size, int64_t place)
{
    for (uint64_t done = 0; done < size;) {
        const long got =
            kernel(__NR_pread64, fd, (long)(bytes + done), (long)(size - done), place + (int64_t)done, 0, 0);
        if (got <= 0) {
            return false;
        }
        done += (uint64_t)got;
    }
    return true;
}

void revert_note(const struct operation *operation)
{
    struct stat status;
    const int fd = open_again(operation, O_RDONLY);
    if (fd < 0) {
        return;
    }
    if (kernel_fstat(fd, &status) == 0) {
        int64_t place;
        const uint64_t length = (uint64_t)status.st_size;
        const uint64_t bytes = extent(operation, length, &place);
        if (before_count == BEFORE_COUNT || room_begin() == NULL || bytes > ROOM_BYTES - room_used ||
            !read_all(fd, room + room_used, bytes, place)) {
            overflowed = true;
        } else {
            befores[before_count++] = (struct before){
                (uint64_t)status.st_dev, (uint64_t)status.st_ino, place, bytes, length, room_used};
            room_used += bytes;
        }
    }
    kernel_close(fd);
}

static bool is_of(const struct before *before, const struct stat *status)
{
    return before->device == (uint64_t)status->st_dev && before->inode == (uint64_t)status->st_ino;
}

static void forget(const struct stat *status)
{
    unsigned left = 0;
    for (unsigned i = 0; i < before_count; i++) {
        if (!is_of(&befores[i], status)) {
            befores[left++] = befores[i];
        }
    }
    before_count = left;
    if (left == 0) {
        room_used = 0;
        overflowed = false;
    }
}

void revert_forget(const struct operation *operation)
{
    struct stat status;
    if ((before_count != 0 || overflowed) && kernel_fstat(operation->fd, &status) == 0) {
        forget(&status);
    }
}

/* Change the file and record that, as a change under the handle of the operation's descriptor. */
static void put(const struct operation *operation, const struct request *request, int64_t place, uint64_t size)
{
    struct recording recording;
    struct operation change = *operation;
    change.request = request;
    change.offset = place;
    change.size = size;
    change.opening.flags = 0; /* the descriptor used does not append, nor sync by itself */
    const bool recorded = is_recording(change.control) && recording_begin(&change, &recording);
    const long *a = request->arguments;
    const long result = kernel(request->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (recorded) {
        recording_end(&change, &recording, result, 0);
    }
}

bool revert_apply(const struct operation *operation)
{
    struct stat status;
    const int fd = open_again(operation, O_RDWR);
    if (fd < 0) {
        return false;
    }
    const bool known = kernel_fstat(fd, &status) == 0 && !overflowed;
    uint64_t length = (uint64_t)status.st_size;
    for (unsigned i = known ? before_count : 0; i > 0; i--) {
        const struct before *before = &befores[i - 1];
        if (!is_of(before, &status)) {
            continue;
        }
        length = before->length;
        if (before->bytes > 0) {
            const struct request write = {
                CALL_pwrite, BYTES, __NR_pwrite64,
                {fd, (long)(room + before->kept), (long)before->bytes, before->place, 0, 0}};
            put(operation, &write, before->place, before->bytes);
        }
    }
    if (known && length != (uint64_t)status.st_size) {
        const struct request cut = {CALL_ftruncate, WHOLE, __NR_ftruncate, {fd, (long)length, 0, 0, 0, 0}};
        put(operation, &cut, -1, 0);
    }
    if (known) {
        forget(&status);
    }
    kernel_close(fd);
    return known;
}
