/* Which file a descriptor means, and whether it is in scope.
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

enum { DESCRIPTOR_COUNT = 4096, NAME_WORDS = NAME_BYTES / 8, KIND_BITS = 2 };

enum kind { UNKNOWN = 0, OUTSIDE = 1, INSIDE = 2, BUSY = 3 };

struct entry {
    _Atomic uint64_t state; /* the kind in the low bits, above it a number that each change raises */
    _Atomic uint64_t device;
    _Atomic uint64_t inode;
    _Atomic uint64_t recording;
    _Atomic uint64_t handle;
    _Atomic uint32_t flags;
    _Atomic uint64_t length;
    _Atomic uint64_t words[NAME_WORDS];
};

static struct entry entries[DESCRIPTOR_COUNT];

static const struct opening unlogged;

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

static void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void put_opening(struct entry *entry, const struct opening *opening)
{
    put(&entry->recording, opening->recording);
    put(&entry->handle, opening->handle);
    atomic_store_explicit(&entry->flags, opening->flags, memory_order_relaxed);
}

/* Keep `name` in the entry if its state is still `seen`; otherwise someone else knows better. */
static void keep(struct entry *entry, uint64_t seen, const struct name *name, const struct opening *opening,
                 uint64_t device, uint64_t inode)
{
    const uint64_t busy = next_state(seen, BUSY);
    if (!change(entry, seen, busy)) {
        return;
    }
    put(&entry->device, device);
    put(&entry->inode, inode);
    put_opening(entry, opening);
    put(&entry->length, name->length);
    for (size_t word = 0; word <= name->length / 8; word++) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < 8 && word * 8 + i < name->length; i++) {
            bytes |= (uint64_t)(unsigned char)name->text[word * 8 + i] << (8 * i);
        }
        put(&entry->words[word], bytes);
    }
    change(entry, busy, next_state(busy, INSIDE));
}

/* Copy the entry if it is still in state `seen` afterwards. */
static bool copy(struct entry *entry, uint64_t seen, struct file *file)
{
    struct name *name = &file->name;
    const uint64_t length = get(&entry->length);
    if (length >= NAME_BYTES) {
        return false;
    }
    name->length = (size_t)length;
    for (size_t word = 0; word <= name->length / 8; word++) {
        const uint64_t bytes = get(&entry->words[word]);
        for (size_t i = 0; i < 8; i++) {
            name->text[word * 8 + i] = (char)(unsigned char)(bytes >> (8 * i));
        }
    }
    name->text[name->length] = '\0';
    file->opening.recording = get(&entry->recording);
    file->opening.handle = get(&entry->handle);
    file->opening.flags = atomic_load_explicit(&entry->flags, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&entry->state, memory_order_relaxed) == seen;
}

static bool is_same(struct entry *entry, const struct stat *status)
{
    return get(&entry->device) == (uint64_t)status->st_dev && get(&entry->inode) == (uint64_t)status->st_ino;
}

/* Ask the kernel what `fd` is, and keep the answer. */
static bool resolve(const struct control *control, int fd, struct entry *entry, uint64_t seen, struct file *file)
{
    struct stat status;
    file->opening = unlogged;
    if (kernel_fstat(fd, &status) < 0) {
        return false; /* not open: the call itself will say so */
    }
    const bool inside = name_of_open_file(control, fd, &status, &file->name);
    if (entry != NULL && inside) {
        keep(entry, seen, &file->name, &unlogged, (uint64_t)status.st_dev, (uint64_t)status.st_ino);
    } else if (entry != NULL) {
        change(entry, seen, next_state(seen, OUTSIDE));
    }
    return inside;
}

bool file_of_descriptor(const struct control *control, int fd, struct file *file)
{
    struct entry *entry = entry_of(fd);
    if (entry == NULL) {
        return fd >= 0 && resolve(control, fd, NULL, 0, file);
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
        if (is_same(entry, &status) && copy(entry, seen, file)) {
            return true;
        }
        descriptor_forget(fd);
        seen = atomic_load_explicit(&entry->state, memory_order_acquire);
    }
    return resolve(control, fd, kind_of(seen) == UNKNOWN ? entry : NULL, seen, file);
}

bool descriptor_is_known(int fd)
{
    struct entry *entry = entry_of(fd);
    return entry != NULL && kind_of(atomic_load_explicit(&entry->state, memory_order_acquire)) == INSIDE;
}

void descriptor_opened(int fd, const struct name *name, const struct opening *opening)
{
    struct entry *entry = entry_of(fd);
    struct stat status;
    descriptor_forget(fd);
    if (entry != NULL && kernel_fstat(fd, &status) == 0) {
        struct name marked = *name;
        name_mark_folder(&marked, &status);
        keep(entry, atomic_load_explicit(&entry->state, memory_order_acquire), &marked, opening,
             (uint64_t)status.st_dev, (uint64_t)status.st_ino);
    }
}

void descriptor_logged(int fd, const struct opening *opening)
{
    struct entry *entry = entry_of(fd);
    const uint64_t seen = entry == NULL ? 0 : atomic_load_explicit(&entry->state, memory_order_acquire);
    const uint64_t busy = next_state(seen, BUSY);
    if (kind_of(seen) == INSIDE && change(entry, seen, busy)) {
        put_opening(entry, opening);
        change(entry, busy, next_state(busy, INSIDE));
    }
}

void descriptor_copied(int from, int to)
{
    struct entry *source = entry_of(from);
    struct entry *entry = entry_of(to);
    struct file file;
    descriptor_forget(to);
    if (source == NULL || entry == NULL) {
        return;
    }
    const uint64_t seen = atomic_load_explicit(&source->state, memory_order_acquire);
    const uint64_t device = get(&source->device);
    const uint64_t inode = get(&source->inode);
    if (kind_of(seen) == INSIDE && copy(source, seen, &file) && file.opening.handle != 0) {
        keep(entry, atomic_load_explicit(&entry->state, memory_order_acquire), &file.name, &file.opening, device,
             inode);
    }
}

void descriptor_flags(int fd, uint32_t flags)
{
    struct entry *entry = entry_of(fd);
    if (entry == NULL || kind_of(atomic_load(&entry->state)) != INSIDE || get(&entry->handle) == 0) {
        return;
    }
    for (int other = 0; other < DESCRIPTOR_COUNT; other++) {
        if (get(&entries[other].handle) == get(&entry->handle)) {
            atomic_store_explicit(&entries[other].flags, flags, memory_order_relaxed);
        }
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
