/* The lock under which operations are executed and recorded; see lock.c. Nobody takes it unless a log is kept. */
#ifndef CHAOS_LOCK_H
#define CHAOS_LOCK_H

#include "control.h"

#include <stdbool.h>

/* Take the lock; waits for a living holder as long as it takes. Returns false, with the lock held, when this thread held
 * it already: a signal handler runs in the middle of an operation. */
bool recording_lock(struct control *control);

void recording_unlock(struct control *control);

/* A program has just been loaded, so a lock that its process holds belongs to the program before it. */
void recording_lock_disown(struct control *control);

#endif
