/* Which file a path or a descriptor means, and whether it is in scope.
 *
 * Descriptors are looked up in a table. An entry is unknown until a hook opens the number or until its first use,
 * when the kernel's link for it is read; the answer is kept until the number is closed or replaced. libc can close and
 * open descriptors behind the hooks' back (fclose, mkstemp), so an entry that says "in scope" is confirmed on each use
 * by comparing the file's device and inode; a socket that inherited the number is thus never taken for a file.
 * Numbers from DESCRIPTOR_COUNT on are looked up afresh each time.
 *
 * An entry is written without a lock: its state word changes to BUSY, the name is stored, the state is published. A
 * reader copies the name and looks at the state again. Words of the name are atomic, since the copy may lose the race.
 */
#include "files.h"

#include "kernel.h"

#include <stdatomic.h>

enum { DESCRIPTOR_COUNT = 4096, PATH_BYTES = 4096, NAME_WORDS = NAME_BYTES / 8, KIND_BITS = 2 };

enum kind { UNKNOWN = 0, OUTSIDE = 1, INSIDE = 2, BUSY = 3 };

struct entry {
    _Atomic uint64_t state; /* the kind in the low bits, above it a number that each change raises */
    _Atomic uint64_t device;
    _Atomic uint64_t inode;
    _Atomic uint64_t length;
    _Atomic uint64_t words[NAME_WORDS];
};

static struct entry entries[DESCRIPTOR_COUNT];

static struct entry *entry_of(int fd)
{
    return fd >= 0 && fd < DESCRIPTOR_COUNT ? &entries[fd] : NULL;
}

static enum kind kind_of(uint64_t state)
{
    return (enum kind)(state & ((1u << KIND_BITS) - 1));
}

static uint64_t next_state(uint64_t state, enum kind kind)
{
    return ((state >> KIND_BITS) + 1) << KIND_BITS | (uint64_t)kind;
}

static bool change(struct entry *entry, uint64_t seen, uint64_t wanted)
{
    return atomic_compare_exchange_strong(&entry->state, &seen, wanted);
}

/* Keep `name` in the entry if its state is still `seen`; otherwise someone else knows better. */
static void keep(struct entry *entry, uint64_t seen, const struct name *name, const struct stat *status)
{
    const uint64_t busy = next_state(seen, BUSY);
    if (!change(entry, seen, busy)) {
        return;
    }
    atomic_store_explicit(&entry->device, (uint64_t)status->st_dev, memory_order_relaxed);
    atomic_store_explicit(&entry->inode, (uint64_t)status->st_ino, memory_order_relaxed);
    atomic_store_explicit(&entry->length, name->length, memory_order_relaxed);
    for (size_t word = 0; word <= name->length / 8; word++) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < 8 && word * 8 + i < name->length; i++) {
            bytes |= (uint64_t)(unsigned char)name->text[word * 8 + i] << (8 * i);
        }
        atomic_store_explicit(&entry->words[word], bytes, memory_order_relaxed);
    }
    change(entry, busy, next_state(busy, INSIDE));
}

/* Copy the name if the entry is still in state `seen` afterwards. */
static bool copy_name(struct entry *entry, uint64_t seen, struct name *name)
{
    const uint64_t length = atomic_load_explicit(&entry->length, memory_order_relaxed);
    if (length >= NAME_BYTES) {
        return false;
    }
    name->length = (size_t)length;
    for (size_t word = 0; word <= name->length / 8; word++) {
        const uint64_t bytes = atomic_load_explicit(&entry->words[word], memory_order_relaxed);
        for (size_t i = 0; i < 8; i++) {
            name->text[word * 8 + i] = (char)(unsigned char)(bytes >> (8 * i));
        }
    }
    name->text[name->length] = '\0';
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&entry->state, memory_order_relaxed) == seen;
}

/* The length of `root` when `path` is that folder or lies below it, else 0. */
static size_t below(const char *root, const char *path)
{
    size_t i = 0;
    while (root[i] != '\0' && root[i] == path[i]) {
        i++;
    }
    return root[i] == '\0' && (path[i] == '/' || path[i] == '\0') ? i : 0;
}

static bool name_below_root(const struct control *control, const char *path, struct name *name)
{
    size_t skip = below(control->root, path);
    if (skip == 0 && control->alias[0] != '\0') {
        skip = below(control->alias, path);
    }
    if (skip == 0) {
        return false;
    }
    path += skip;
    while (*path == '/') {
        path++;
    }
    name->length = 0;
    while (path[name->length] != '\0' && name->length < NAME_BYTES - 2) { /* room for a folder's "/" and the NUL */
        name->text[name->length] = path[name->length];
        name->length++;
    }
    name->text[name->length] = '\0';
    return true;
}

/* Read where the kernel says `fd` leads; returns the length, 0 on failure. `path` has PATH_BYTES. */
static size_t descriptor_path(int fd, char *path)
{
    char link[32] = "/proc/self/fd/";
    char digits[12];
    size_t count = 0;
    size_t length = sizeof "/proc/self/fd/" - 1;
    for (unsigned rest = (unsigned)fd; rest != 0 || count == 0; rest /= 10) {
        digits[count++] = (char)('0' + rest % 10);
    }
    while (count > 0) {
        link[length++] = digits[--count];
    }
    link[length] = '\0';
    const long size = kernel_readlink(link, path, PATH_BYTES - 1);
    if (size <= 0) {
        return 0;
    }
    path[size] = '\0';
    return (size_t)size;
}

/* Add `path` to `result` part by part, resolving "." and ".." by spelling; returns the length, 0 when it overflows. */
static size_t add_parts(char *result, size_t length, const char *path)
{
    while (*path != '\0') {
        size_t size = 0;
        while (path[size] != '/' && path[size] != '\0') {
            size++;
        }
        if (size == 2 && path[0] == '.' && path[1] == '.') {
            while (length > 0 && result[--length] != '/') {
            }
        } else if (size != 0 && !(size == 1 && path[0] == '.')) {
            if (length + 1 + size >= PATH_BYTES) {
                return 0;
            }
            result[length++] = '/';
            for (size_t i = 0; i < size; i++) {
                result[length++] = path[i];
            }
        }
        path += size;
        while (*path == '/') {
            path++;
        }
    }
    result[length] = '\0';
    return length;
}

bool name_of_path(const struct control *control, int folder, const char *path, struct name *name)
{
    char whole[PATH_BYTES];
    size_t length = 0;
    if (path == NULL || path[0] == '\0') {
        return false;
    }
    if (path[0] != '/') {
        if (folder != AT_FDCWD) {
            length = descriptor_path(folder, whole);
        } else {
            const long size = kernel_getcwd(whole, sizeof whole);
            length = size > 1 ? (size_t)size - 1 : 0;
        }
        if (length == 0 || whole[0] != '/') {
            return false;
        }
        length = length == 1 ? 0 : length; /* the folder "/": each part brings its own slash */
    }
    return add_parts(whole, length, path) != 0 && name_below_root(control, whole, name);
}

static void mark_folder(struct name *name, const struct stat *status)
{
    if ((status->st_mode & 0170000) == 0040000) {
        name->text[name->length++] = '/';
        name->text[name->length] = '\0';
    }
}

static bool is_same(struct entry *entry, const struct stat *status)
{
    return atomic_load_explicit(&entry->device, memory_order_relaxed) == (uint64_t)status->st_dev &&
           atomic_load_explicit(&entry->inode, memory_order_relaxed) == (uint64_t)status->st_ino;
}

/* Ask the kernel what `fd` is, and keep the answer. */
static bool resolve(const struct control *control, int fd, struct entry *entry, uint64_t seen, struct name *name)
{
    struct stat status;
    char path[PATH_BYTES];
    static const char deleted[] = " (deleted)";
    if (kernel_fstat(fd, &status) < 0) {
        return false; /* not open: the call itself will say so */
    }
    const unsigned type = status.st_mode & 0170000u;
    bool inside = false;
    if (type == 0100000u || type == 0040000u) { /* a regular file or a folder */
        size_t length = descriptor_path(fd, path);
        if (status.st_nlink == 0 && length > sizeof deleted - 1) {
            path[length - (sizeof deleted - 1)] = '\0'; /* an open file keeps the name it had */
        }
        inside = length != 0 && name_below_root(control, path, name);
    }
    if (inside) {
        mark_folder(name, &status);
    }
    if (entry != NULL && inside) {
        keep(entry, seen, name, &status);
    } else if (entry != NULL) {
        change(entry, seen, next_state(seen, OUTSIDE));
    }
    return inside;
}

bool name_of_descriptor(const struct control *control, int fd, struct name *name)
{
    struct entry *entry = entry_of(fd);
    if (entry == NULL) {
        return fd >= 0 && resolve(control, fd, NULL, 0, name);
    }
    uint64_t seen = atomic_load_explicit(&entry->state, memory_order_acquire);
    if (kind_of(seen) == OUTSIDE) {
        return false;
    }
    if (kind_of(seen) == INSIDE) {
        struct stat status;
        if (kernel_fstat(fd, &status) < 0) {
            return false;
        }
        if (is_same(entry, &status) && copy_name(entry, seen, name)) {
            return true;
        }
        descriptor_forget(fd);
        seen = atomic_load_explicit(&entry->state, memory_order_acquire);
    }
    return resolve(control, fd, kind_of(seen) == UNKNOWN ? entry : NULL, seen, name);
}

void descriptor_opened(int fd, const struct name *name)
{
    struct entry *entry = entry_of(fd);
    struct stat status;
    descriptor_forget(fd);
    if (entry != NULL && kernel_fstat(fd, &status) == 0) {
        struct name marked = *name;
        mark_folder(&marked, &status);
        keep(entry, atomic_load_explicit(&entry->state, memory_order_acquire), &marked, &status);
    }
}

void descriptor_forget(int fd)
{
    struct entry *entry = entry_of(fd);
    if (entry != NULL) {
        uint64_t seen = atomic_load_explicit(&entry->state, memory_order_relaxed);
        while (seen != 0 && !atomic_compare_exchange_weak(&entry->state, &seen, next_state(seen, UNKNOWN))) {
        }
    }
}

void descriptors_forget(unsigned first, unsigned last)
{
    for (unsigned fd = first; fd < DESCRIPTOR_COUNT && fd <= last; fd++) {
        descriptor_forget((int)fd);
    }
}
