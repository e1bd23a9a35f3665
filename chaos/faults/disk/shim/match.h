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

/* Take up to `wanted` bytes from a full disk's budget; returns how many it grants. */
uint64_t budget_take(struct rule *rule, uint64_t generation, uint64_t wanted);

/* Give back bytes that were taken and then not written. */
void budget_return(struct rule *rule, uint64_t generation, uint64_t unused);

#endif
