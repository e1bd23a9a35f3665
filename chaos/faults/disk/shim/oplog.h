/* The operation log: the records, and appending one; see oplog.c. chaos/faults/disk/oplog.py reads them. */
#ifndef CHAOS_OPLOG_H
#define CHAOS_OPLOG_H

#include "control.h"

#include <linux/uio.h>
#include <stdbool.h>
#include <stddef.h>

#define LOG_MAGIC UINT32_C(0x504f4843) /* "CHOP" in memory order */

enum operation_kind {
    KIND_NONE = 0,
    KIND_OPEN = 1,
    KIND_WRITE = 2,
    KIND_TRUNCATE = 3,
    KIND_ALLOCATE = 4,
    KIND_SYNC = 5,
    KIND_SYNC_RANGE = 6,
    KIND_SYNC_ALL = 7,
    KIND_RENAME = 8,
    KIND_LINK = 9,
    KIND_SYMLINK = 10,
    KIND_UNLINK = 11,
    KIND_RMDIR = 12,
    KIND_MKDIR = 13,
    KIND_CLOSE = 14,
    KIND_MARKER = 15,
    KIND_TAINT = 16,
    KIND_ADOPT = 17,
    KIND_ATTACH = 18,
    KIND_SYNC_FAILED = 19,
    KIND_END = 20,
};

#define FLAG_DATA_ONLY UINT32_C(1)     /* of SYNC: fdatasync */
#define FLAG_DROPPED UINT32_C(1)       /* of SYNC_FAILED: what was not synced never will be */
#define FLAG_UNNAMED UINT32_C(1)       /* of ADOPT: the file has no name any more */
#define FLAG_LIED UINT32_C(0x80000000) /* of any: the caller was told that it succeeded, and nothing was done */

struct log_header {
    uint32_t magic;
    uint16_t kind;
    uint16_t header_bytes;
    uint64_t total_bytes;
    uint64_t clock;
    uint64_t time_ns;
    uint32_t pid;
    uint32_t flags;
    uint64_t handle;
    int64_t offset; /* -1: none */
    uint64_t size;
    int64_t result;
    uint32_t name_bytes;
    uint32_t other_bytes;
    uint64_t payload_bytes;
};

_Static_assert(sizeof(struct log_header) == 88, "the record's header has no gaps");

struct log_text {
    const char *bytes;
    size_t length;
};

/* What a record is made from. */
struct log_entry {
    enum operation_kind kind;
    uint32_t flags;
    uint64_t handle;
    struct log_text name;
    struct log_text other;
    int64_t offset;
    uint64_t size;
    int64_t result;
    const struct iovec *payload; /* its first `payload_bytes` bytes */
    uint64_t payload_bytes;
};

/* Draw a number from the clock, append a record that carries it, and return it. The recording lock is held. When the
 * log cannot be written, recording ends for everyone, and control->lost says so. */
uint64_t log_append(struct control *control, const struct log_entry *entry);

/* Drop what a killed process left of a record after the last whole one. The recording lock is held. */
void log_repair(struct control *control);

/* A text that ends with NUL. */
struct log_text log_text(const char *text);

#endif
