/* Processes, told apart from later ones under the same number by the moment of their birth; see process.h. */
#include "process.h"

#include "kernel.h"
#include "text.h"

#include <stdatomic.h>

enum { STAT_BYTES = 512, START_FIELD = 22, FIELD_AFTER_NAME = 3 };

/* Who this process is. The page is emptied in a forked child, not in one of vfork. */
struct self {
    _Atomic uint64_t pid;
    _Atomic uint64_t birth;
};

static _Atomic(struct self *) self_page;

/* Stands in for the page where the kernel refuses it; stays empty, so each look finds out anew. */
static struct self nobody;

/* Read a /proc stat file: the state's letter, and when the task was born in clock ticks. False when there is no such task. */
static bool read_stat(const char *path, char *state, uint64_t *birth)
{
    char text[STAT_BYTES];
    const long fd = kernel_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    const long size = fd < 0 ? -1 : kernel_read((int)fd, text, sizeof text);
    if (fd >= 0) {
        kernel_close((int)fd);
    }
    long at = size - 1;
    while (at >= 0 && text[at] != ')') { /* the name before it may hold anything */
        at--;
    }
    if (at < 0 || at + 2 >= size) {
        return false;
    }
    at += 2;
    *state = text[at];
    for (int field = FIELD_AFTER_NAME; at < size && field < START_FIELD; at++) {
        field += text[at] == ' ';
    }
    *birth = 0;
    for (; at < size && text[at] >= '0' && text[at] <= '9'; at++) {
        *birth = *birth * 10 + (uint64_t)(text[at] - '0');
    }
    return true;
}

static size_t process_path(char *path, uint32_t pid)
{
    const size_t length = text_add(path, 0, STAT_BYTES, "/proc/");
    return text_add_number(path, length, STAT_BYTES, pid);
}

uint64_t birth_of(uint32_t pid)
{
    char path[STAT_BYTES];
    char state;
    uint64_t birth = 0;
    text_add(path, process_path(path, pid), sizeof path, "/stat");
    return read_stat(path, &state, &birth) ? birth : 0;
}

static struct self *self(void)
{
    struct self *page = atomic_load_explicit(&self_page, memory_order_acquire);
    if (page != NULL) {
        return page;
    }
    const long address = kernel(__NR_mmap, 0, sizeof *page, PROTECTION_READ_WRITE, MAPPING_PRIVATE_ANONYMOUS, -1, 0);
    struct self *fresh = &nobody;
    if (address > 0 && kernel(__NR_madvise, address, sizeof *page, ADVICE_WIPE_ON_FORK, 0, 0, 0) == 0) {
        fresh = (struct self *)address;
    }
    struct self *expected = NULL;
    return atomic_compare_exchange_strong(&self_page, &expected, fresh) ? fresh : expected;
}

bool is_borrower(void)
{
    const uint64_t pid = atomic_load_explicit(&self()->pid, memory_order_relaxed);
    return pid != 0 && pid != kernel_getpid();
}

/* The birth of process `pid`, which is this one, kept in the page. */
static uint64_t known_birth(uint32_t pid)
{
    struct self *page = self();
    uint64_t birth = atomic_load_explicit(&page->birth, memory_order_acquire);
    if (atomic_load_explicit(&page->pid, memory_order_acquire) != pid) {
        birth = birth_of(pid);
        if (page != &nobody && atomic_load_explicit(&page->pid, memory_order_relaxed) == 0) {
            atomic_store_explicit(&page->birth, birth, memory_order_release);
            atomic_store_explicit(&page->pid, pid, memory_order_release);
        }
    }
    return birth;
}

/* What a thread knows of itself. In a forked child the page no longer has the pid that was read with it. */
static __thread struct identity known;

struct identity own_identity(void)
{
    const uint64_t pid = atomic_load_explicit(&self()->pid, memory_order_acquire);
    if (pid == 0 || known.pid != pid) {
        known.pid = kernel_getpid();
        known.thread = (uint32_t)kernel(__NR_gettid, 0, 0, 0, 0, 0, 0);
        known.birth = known_birth(known.pid);
    }
    return known;
}

bool thread_is_gone(uint32_t pid, uint32_t thread)
{
    char path[STAT_BYTES];
    char state;
    uint64_t birth;
    if (kernel(__NR_tgkill, (long)pid, (long)thread, 0, 0, 0, 0) == -ESRCH) {
        return true;
    }
    size_t length = text_add(path, process_path(path, pid), sizeof path, "/task/");
    length = text_add_number(path, length, sizeof path, thread);
    text_add(path, length, sizeof path, "/stat");
    return read_stat(path, &state, &birth) && (state == 'Z' || state == 'X');
}
