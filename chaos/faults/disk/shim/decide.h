/* What the armed rules want done about one call, and the record of what was done; see decide.c. */
#ifndef CHAOS_DECIDE_H
#define CHAOS_DECIDE_H

#include "act.h"
#include "control.h"
#include "files.h"
#include "match.h"

#include <stdbool.h>

/* One call on a file in scope. */
struct operation {
    struct control *control;
    const struct request *request;
    const struct name *name;
    const struct name *other; /* the second path of a rename, or NULL */
    int fd;                   /* -1 when the call names its file by path */
    int64_t offset;
    uint64_t size;
    uint64_t clock;
    struct opening opening; /* of `fd`; of the new descriptor once an open has run */
};

/* What the rules together want. An order whose generation is 0 is absent. */
struct decision {
    struct order failing; /* ACTION_ERRNO, ACTION_FULL beyond its budget, ACTION_SYNC_FAIL */
    struct order lying;
    struct order rotting;
    struct order misdirecting;
    struct order delaying;
    struct order cutting; /* ACTION_SHORT, ACTION_TEAR, or ACTION_FULL at the edge of its budget */
    struct order killing;
    struct order budget;  /* where `granted` bytes were taken */
    uint64_t granted;
    uint64_t keep;     /* bytes that may be transferred */
    uint64_t delay_ns;
    uint64_t counting; /* bit n: rule n counts this call if it succeeds */
    bool noting;       /* a rule may want to bring back what the file holds now, or held */
    uint16_t generations[RULE_COUNT]; /* set only where `counting` is */
};

/* True when some rule may act on this call, whatever the file. */
bool may_concern(const struct control *control, unsigned call);

/* True when no armed rule means a file of this name, whatever the call. */
bool spares(const struct control *control, const struct name *name);

/* Count the call in each rule that it matches, and gather what those whose turn it is want. Spends budgets. */
void decide(const struct operation *operation, struct decision *decision);

/* Where in its file the call's bytes are or go; -1 when it has no such place. */
int64_t place_before(const struct operation *operation);

/* Write the record of an injection: `amount` bytes or nanoseconds, `error` 0 when the call does not fail. */
void record(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error);

#endif
