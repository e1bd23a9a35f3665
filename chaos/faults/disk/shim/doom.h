/* Killing all processes of a run at one moment; see doom.c. */
#ifndef CHAOS_DOOM_H
#define CHAOS_DOOM_H

#include "control.h"
#include "load.h"

#include <stdatomic.h>
#include <stdbool.h>

/* True when this program, or the one it was forked from, must die instead of making its next call. */
static inline bool is_doomed(const struct control *control)
{
    return attach_number < atomic_load_explicit(&control->doomed, memory_order_relaxed);
}

/* Doom every program that has attached so far, and send SIGKILL to all that can be found but this one. */
void doom(struct control *control);

#endif
