/* What kind of record a call leaves in the operation log. */
#ifndef CHAOS_KINDS_H
#define CHAOS_KINDS_H

#include "decide.h"
#include "oplog.h"

#include <stdbool.h>

/* The kind, KIND_NONE for a call that changes nothing. */
enum operation_kind kind_of(const struct operation *operation);

/* True when an open with these flags may change the file, its name, or later its bytes. */
bool changes_at_open(uint32_t flags);

#endif
