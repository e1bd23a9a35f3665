/* Recording what the program's calls change; see recorder.c. */
#ifndef CHAOS_RECORDER_H
#define CHAOS_RECORDER_H

#include "decide.h"
#include "oplog.h"

#include <stdatomic.h>
#include <stdbool.h>

/* One operation being recorded. */
struct recording {
    uint64_t number;     /* control->recording at its begin */
    uint32_t interrupted; /* the operation, by kind, that a signal handler has interrupted to do this one */
    bool nested;         /* there is one: the lock was held already */
    enum operation_kind kind;
};

static inline bool is_recording(const struct control *control)
{
    return atomic_load_explicit(&control->recording, memory_order_relaxed) != 0;
}

/* Take the lock and prepare for the operation's record; false, without the lock, when there is nothing to record. The
 * operation's descriptor is adopted by the log when it is unknown there. */
bool recording_begin(struct operation *operation, struct recording *recording);

/* Record the operation if it succeeded, and give the lock back. For an open, `operation->opening` is what to remember
 * of the descriptor. `flags` are FLAG_LIED or 0. */
void recording_end(struct operation *operation, struct recording *recording, long result, uint32_t flags);

/* Record an open that only turned out afterwards to lead into the root, through a link. */
void record_late_open(struct control *control, int fd, uint32_t flags);

/* Record a sync that a rule makes fail. */
void record_failed_sync(struct operation *operation, uint32_t flags);

/* Record that something happened to a file (or, with NULL, to an unknown one) that the log cannot tell. */
void record_taint(struct control *control, const struct name *name, const char *reason);

/* Record a MARKER with its text, or an ATTACH with its program. Does nothing when no log is kept. */
void record_event(struct control *control, enum operation_kind kind, const char *name);

#endif
