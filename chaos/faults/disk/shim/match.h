/* Which rule acts on which call: pure functions over the control file, also built alone under sanitizers. */
#ifndef CHAOS_MATCH_H
#define CHAOS_MATCH_H

#include "control.h"

#include <stdbool.h>
#include <stddef.h>

/* The declared part of a rule, copied so that it cannot change while it is being used. */
struct order {
    uint64_t generation;
    uint64_t nth;
    uint64_t count;
    uint64_t amount;
    uint64_t probability;
    uint64_t seed;
    uint64_t first;
    uint64_t end;
    uint64_t second;
    uint64_t third;
    uint64_t number; /* of the match that it is carried out for */
    uint32_t spread;
    uint32_t action;
    uint32_t error;
    uint32_t slot;
};

/* True when all of `text` matches `pattern`: `*` stands for any characters, `/` included, `?` for exactly one, any
 * other character for itself. There are no classes and no escapes. Takes time in the product of the lengths at
 * worst, and never recurses. */
bool glob_matches(const char *pattern, const char *text);

/* The sum that guards a rule's declared fields, for `generation`. */
uint64_t rule_checksum(const struct rule *rule, uint64_t generation);

/* True when rule `slot` is armed, whole, names call number `call`, and its glob matches one of the names (the second
 * may be NULL). Then `order` holds a copy. `verified` remembers for this process which generation was checked. */
bool rule_matches(const struct control *control, uint32_t slot, _Atomic uint64_t *verified, unsigned call,
                  const char *name, const char *other, struct order *order);

/* Add to a counter on behalf of `generation`; returns the count after it, or 0 when a newer rule owns the slot. */
uint64_t counter_add(counter *target, uint64_t generation, uint64_t amount);

/* The count held for `generation`: 0 when the counter was last touched for another one. */
uint64_t counter_value(const counter *target, uint64_t generation);

/* True when the matching call with 1-based number `number` is one that the order acts on. */
bool order_acts(const struct order *order, uint64_t number);

/* A number that looks random and is always the same for the same two. */
uint64_t mixed(uint64_t seed, uint64_t number);

/* True with the order's probability, decided by `number`. */
bool order_draws(const struct order *order, uint64_t number);

/* True when the order may act on `size` bytes at `place` in a file; `place` is -1 when there is none. */
bool order_covers(const struct order *order, int64_t place, uint64_t size);

/* How long the order delays a call of `size` bytes, in nanoseconds. */
uint64_t order_delay(const struct order *order, uint64_t size);

/* Where a write of `size` bytes at `place` is torn: how many bytes are kept, 0 when it crosses no boundary. */
uint64_t order_tear(const struct order *order, uint64_t place, uint64_t size);

/* Take up to `wanted` bytes from a full disk's budget; returns how many it grants. */
uint64_t budget_take(struct rule *rule, uint64_t generation, uint64_t wanted);

/* Give back bytes that were taken and then not written. */
void budget_return(struct rule *rule, uint64_t generation, uint64_t unused);

#endif
