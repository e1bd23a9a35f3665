/* The records of single kinds of operations. The recording lock is held in all of them. */
#ifndef CHAOS_RECORDS_H
#define CHAOS_RECORDS_H

#include "decide.h"
#include "oplog.h"

#include <stdatomic.h>

/* A name as a text; an empty one for NULL. */
struct log_text text_of(const struct name *name);

/* Append a TAINT. `name` may be NULL. */
void append_taint(struct control *control, const struct name *name, const char *reason);

/* Append a record with `name` in it, and a taint when that was too long to be whole. Returns the record's number. */
uint64_t append_named(struct control *control, const struct log_entry *entry, const struct name *name);

/* Record a write of `entry->result` bytes, and the sync that it may be as well. */
void record_write(const struct operation *operation, struct log_entry *entry);

void record_rename(const struct operation *operation, struct log_entry *entry);
void record_link(const struct operation *operation, struct log_entry *entry);

#endif
