/* Carrying out one call on a file in scope; see perform.c. The order of things is told in hooks.c. */
#ifndef CHAOS_PERFORM_H
#define CHAOS_PERFORM_H

#include "decide.h"

/* Returns what the kernel returned or, negative, the injected errno. */
long perform(struct operation *operation);

/* Carry a request out as it is, unseen by anybody. */
long run(const struct request *request);

#endif
