/* The recording lock: one for all processes of a run, and it survives the death of its holder.
 *
 * The order of the log must be the order of effects, between threads and between processes. So an operation that
 * changes anything is executed, numbered and appended while its thread holds this lock. It serialises what would
 * otherwise run side by side, syncs included; that is the price of an exact log, and only paid while one is kept.
 * Rules are decided, delays slept and kills died before the lock is taken or after it is given back.
 *
 * SIGKILL may come at any instruction, so the word that is the lock names its holder: thread, process, and when the
 * process was born. Who has waited in vain for a while asks the kernel whether that thread still lives; a zombie does
 * not, and a process of another birth is another process under a reused number. A dead holder's lock is taken over by
 * one compare-and-swap. The kernel's own robust futexes cannot be used: their list is registered once for a thread, and
 * libc has done that.
 *
 * The successor repairs the log (oplog.c). If the dead had begun an operation (`pending`) whose record is missing, then
 * the files may hold what the log does not, and goes on: that is recorded as a taint. A sync is the exception: assuming
 * that it did not happen is safe.
 *
 * Waiters sleep on the word's lower half, which holds the thread and thus changes with the holder. The kernel compares it
 * before putting them to sleep; a wake-up that is lost all the same costs one PATIENCE.
 */
#include "lock.h"

#include "kernel.h"
#include "oplog.h"
#include "process.h"

#include <stdatomic.h>

enum { ID_BITS = 22, BIRTH_SHIFT = 2 * ID_BITS, SPIN_COUNT = 100 };

static const uint64_t ID_MASK = (UINT64_C(1) << ID_BITS) - 1; /* the kernel's PID_MAX_LIMIT is 2^22 */
static const long PATIENCE_NS = 20000000;

/* The word by which this thread holds the lock. */
static uint64_t own_word(void)
{
    const struct identity own = own_identity();
    return own.birth << BIRTH_SHIFT | (own.pid & ID_MASK) << ID_BITS | (own.thread & ID_MASK);
}

/* True when the thread that holds the lock by `word` is gone. */
static bool holder_is_gone(uint64_t word)
{
    const uint64_t pid = word >> ID_BITS & ID_MASK;
    if (thread_is_gone((uint32_t)pid, (uint32_t)(word & ID_MASK))) {
        return true;
    }
    const uint64_t birth = birth_of((uint32_t)pid);
    return birth != 0 && birth << BIRTH_SHIFT != word >> BIRTH_SHIFT << BIRTH_SHIFT;
}

static void repair(struct control *control)
{
    const uint32_t pending = atomic_load(&control->pending);
    log_repair(control);
    if (pending != KIND_NONE && pending != KIND_SYNC) {
        const struct log_entry taint = {
            .kind = KIND_TAINT,
            .other = log_text("a process was killed within a call that was not recorded, and others went on"),
            .offset = -1,
        };
        log_append(control, &taint);
    }
    atomic_store(&control->pending, KIND_NONE);
}

/* Take the lock from a holder that is gone; false when somebody else was faster. */
static bool inherit(struct control *control, uint64_t seen, uint64_t own)
{
    if (!atomic_compare_exchange_strong(&control->holder, &seen, own)) {
        return false;
    }
    repair(control);
    return true;
}

/* Sleep until the holder changes, or for PATIENCE_NS; returns false in the latter case. */
static bool await_change(struct control *control, uint64_t seen)
{
    const struct __kernel_timespec patience = {0, PATIENCE_NS};
    atomic_fetch_add(&control->waiters, 1);
    const long result = kernel(__NR_futex, (long)&control->holder, FUTEX_WAIT_SHARED, (long)(uint32_t)seen,
                               (long)&patience, 0, 0);
    atomic_fetch_sub(&control->waiters, 1);
    return result != -ETIMEDOUT;
}

bool recording_lock(struct control *control)
{
    const uint64_t own = own_word();
    for (unsigned turn = 0;; turn++) {
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong(&control->holder, &seen, own)) {
            return true;
        }
        if (seen == own) {
            return false;
        }
        if (turn >= SPIN_COUNT && !await_change(control, seen) && holder_is_gone(seen) &&
            inherit(control, seen, own)) {
            return true;
        }
    }
}

void recording_unlock(struct control *control)
{
    atomic_store(&control->holder, 0);
    if (atomic_load(&control->waiters) != 0) {
        kernel(__NR_futex, (long)&control->holder, FUTEX_WAKE_SHARED, 1, 0, 0, 0);
    }
}

void recording_lock_disown(struct control *control)
{
    const uint64_t seen = atomic_load(&control->holder);
    if ((seen >> ID_BITS & ID_MASK) == kernel_getpid() && inherit(control, seen, own_word())) {
        recording_unlock(control);
    }
}
