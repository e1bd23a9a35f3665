/* What the rules do to a call and its data; see harm.c. */
#ifndef CHAOS_HARM_H
#define CHAOS_HARM_H

#include "decide.h"

#include <stdbool.h>

/* Write the record of an injection and count it; returns the count. */
uint64_t injected(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error);

/* Sleep for so long, or until the order's rule is disarmed. */
void harm_delay(const struct operation *operation, const struct order *order, uint64_t nanoseconds);

/* Do nothing, and return what a success would: the number of bytes of a write, by which the file's position moves. */
long harm_lie(struct operation *operation, const struct order *order);

/* Flip bits in the first `size` bytes that a read has returned. */
void harm_rot(const struct operation *operation, const struct order *order, uint64_t size);

/* Make `moved` the same write at another place. Returns true when the file's position has to be moved by hand. */
bool harm_misdirect(struct operation *operation, const struct order *order, struct request *moved);

#endif
