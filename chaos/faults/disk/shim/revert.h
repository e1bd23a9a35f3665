/* What a file held before it was changed, so that a failed sync can bring it back; see revert.c. */
#ifndef CHAOS_REVERT_H
#define CHAOS_REVERT_H

#include "decide.h"

#include <stdbool.h>

/* Keep what the call is about to change. The recording lock is held. */
void revert_note(const struct operation *operation);

/* The file has been synced: what it held before is of no use any more. The recording lock is held. */
void revert_forget(const struct operation *operation);

/* Bring back what the file held at its last sync, or when the rule was armed if that is later. False, with nothing done,
 * when that is not known any more. The recording lock is held. */
bool revert_apply(const struct operation *operation);

#endif
