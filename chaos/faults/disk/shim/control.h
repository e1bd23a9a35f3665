/* The control file: one file that every process of a run maps shared, the harness as well as its victims.
 *
 * The harness edits rules in it while victims run; victims count, record and obey. The layout is fixed and has no
 * pointers. chaos/faults/disk/layout.py mirrors it, and a test compares the two field by field; whoever changes
 * one changes the other and raises CHAOS_ABI.
 *
 * Only the operation log has a lock (lock.c). Three means keep a half-written rule from being seen without one:
 *   - a rule acts only while `generation` is not 0, and that word is stored last;
 *   - `checksum` covers the generation and every declared field, and is checked before the rule is first used;
 *   - each counter carries the generation in its upper 16 bits, so it starts at 0 for each arming without anyone
 *     storing a 0, and a late increment of an earlier rule in the same slot is dropped.
 */
#ifndef CHAOS_CONTROL_H
#define CHAOS_CONTROL_H

#include <stdint.h>

#define CHAOS_MAGIC UINT64_C(0x7366736f61686331) /* "1chaosfs" in memory order */
#define CHAOS_ABI UINT32_C(3)

#define MARKER_FOLDER ".chaos-marker/" /* deleting a name in it, below the root, records the rest as a marker */

enum {
    RULE_COUNT = 64,
    RECORD_COUNT = 4096,
    PID_COUNT = 256,
    ROOT_BYTES = 1024, /* each with its ending NUL */
    GLOB_BYTES = 256,
    ID_BYTES = 64,
    TAIL_BYTES = 120,
    LOG_TAIL_BYTES = 1 << 18,
};

enum action {
    ACTION_NONE = 0,
    ACTION_ERRNO = 1,      /* not executed; fails with `error` */
    ACTION_DELAY = 2,      /* sleeps `amount` nanoseconds, plus what `spread` draws from `second`, plus `third` for each
                              MiB; then runs */
    ACTION_SHORT = 3,      /* transfers only the first `amount` bytes and returns that number */
    ACTION_KILL = 4,       /* SIGKILL to the own process before the call */
    ACTION_KILL_AFTER = 5, /* the same, after the call has run */
    ACTION_COUNT = 6,      /* counts the matching calls that succeed; changes nothing */
    ACTION_FULL = 7,       /* transfers while the bytes in `limit` last, then fails with `error`; after `third` failures
                              (0: never) `second` more bytes are free */
    ACTION_LIE = 8,        /* writes and syncs: not executed, and success returned */
    ACTION_SYNC_FAIL = 9,  /* fails with `error`; `amount` is what becomes of the bytes that were not synced */
    ACTION_TEAR = 10,      /* writes that cross a multiple of `amount` in the file: cut at one, then SIGKILL */
    ACTION_ROT = 11,       /* reads: one bit in each `amount` bytes of the file is flipped in what is returned */
    ACTION_MISDIRECT = 12, /* writes land `amount` bytes further on */
    ACTION_KILL_ALL = 13,  /* SIGKILL to all processes of the run before the call */
    ACTION_KILL_ALL_AFTER = 14,
    ACTION_END = 15,
};

/* What a failed sync does to the bytes that were not synced. */
enum pages {
    PAGES_KEPT = 0,     /* a later sync makes them durable */
    PAGES_DROPPED = 1,  /* reads see them, and no sync makes them durable any more; only a log can show that */
    PAGES_REVERTED = 2, /* reads see what was there before; the rule must name writes, cuts and allocations, too */
};

/* How the drawn part of a delay is spread. */
enum spread {
    SPREAD_NONE = 0,
    SPREAD_UNIFORM = 1, /* between 0 and `second` nanoseconds */
    SPREAD_TAIL = 2,    /* half of the draws below `second`, one in n above n times `second`: a Pareto tail, cut at DELAY_MAX */
};

#define DELAY_MAX UINT64_C(60000000000)

/* A counter: generation in the upper 16 bits, the count in the lower 48. */
typedef _Atomic uint64_t counter;

struct rule {
    _Atomic uint64_t generation; /* 0: disarmed; otherwise 1..65535 */
    uint64_t checksum;           /* of generation, then the bytes from `calls` to the end of `glob` */
    uint64_t calls;              /* bit n: the call in row n of calls.def */
    uint64_t nth;                /* 1-based: the first matching call since arming that acts */
    uint64_t count;              /* how many act from there on; 0 = all */
    uint64_t amount;             /* nanoseconds or bytes, by action */
    uint32_t action;
    uint32_t error;
    uint64_t probability; /* 1 to 2^32, in units of 2^-32: of a call whose turn it is; of a place, for ACTION_ROT */
    uint64_t seed;        /* what is drawn is a hash of this and the number of the match, or of the place */
    uint64_t first;       /* only bytes of the file from here ... */
    uint64_t end;         /* ... to before here; 0 with 0: all calls, also those that have no place in a file */
    uint64_t second;
    uint64_t third;
    uint64_t spread;
    char id[ID_BYTES];    /* NUL-terminated; the fault's id in the run */
    char glob[GLOB_BYTES];
    counter matched;   /* calls that matched */
    counter fired;     /* calls that were acted on; for ACTION_COUNT those that succeeded */
    counter shortened; /* ACTION_FULL: writes cut at the edge of the budget */
    counter used;      /* ACTION_FULL: bytes taken; ACTION_DELAY: nanoseconds slept; ACTION_ROT: bits flipped */
    counter limit;     /* ACTION_FULL: the budget in bytes; the harness may raise it at any time */
};

/* One injection, written before the call returns, so that it survives even the SIGKILL it tells about. */
struct record {
    _Atomic uint64_t sequence; /* 1-based number of this injection; 0 while being written */
    uint64_t clock;            /* the operation's number on the shared clock */
    uint64_t time_ns;          /* CLOCK_MONOTONIC */
    int64_t offset;            /* in the file; -1 when the call has none */
    uint64_t size;             /* bytes asked for, or 0 */
    uint64_t amount;           /* bytes allowed, or nanoseconds slept, by action */
    uint32_t pid;
    uint32_t call; /* row of calls.def */
    uint32_t slot;
    uint32_t generation;
    uint32_t action;
    uint32_t error;
    char id[ID_BYTES];
    char tail[TAIL_BYTES]; /* the last bytes of the root-relative name */
};

struct control {
    uint64_t magic;
    uint32_t abi;
    uint32_t reserved;
    uint64_t total_bytes;
    _Atomic uint64_t armed;    /* bit n: rule n may be armed; a hint that spares victims 64 look-ups */
    _Atomic uint64_t attached; /* programs that loaded the shim; a fork without exec adds nothing */
    _Atomic uint64_t recorded; /* injections so far; record n is at n % RECORD_COUNT */
    uint8_t source_sha256[32]; /* stored by the shim: the sources it was built from */
    char root[ROOT_BYTES];     /* canonical; only files below it are in scope */
    char alias[ROOT_BYTES];    /* the same root as the user spelled it, or empty */
    char log[ROOT_BYTES];      /* where operations are recorded; stored before `recording` */
    _Atomic uint64_t pids[PID_COUNT]; /* attached process n is at n % PID_COUNT: pid, above its 32 bits its birth */
    _Atomic uint64_t clock __attribute__((aligned(64))); /* operations on files in scope, of all processes */
    _Atomic uint64_t recording;  /* 0: no log is kept; otherwise the number of this recording, 1, 2, ... */
    _Atomic uint64_t doomed;     /* programs that attached before this many had must die at their next call */
    _Atomic uint64_t edits;      /* raised after each change of the rules */
    _Atomic uint64_t recordings; /* how many were begun */
    _Atomic uint64_t log_bytes;  /* length of the log's whole records */
    _Atomic uint64_t lost;       /* records that could not be written, which ended the recording */
    _Atomic uint64_t log_written; /* how many of the log's bytes are in its file; the others are in `log_tail` */
    _Atomic uint64_t holder __attribute__((aligned(64))); /* of the recording lock; see lock.c */
    _Atomic uint32_t waiters;    /* for it; one who was killed stays counted, which costs a futile wake-up */
    _Atomic uint32_t pending;    /* the kind of operation that the holder has begun and not recorded yet */
    _Atomic uint64_t log_behind; /* the place behind the record that the holder is appending; 0: it is not */
    struct rule rules[RULE_COUNT] __attribute__((aligned(64)));
    struct record records[RECORD_COUNT] __attribute__((aligned(64)));
    char log_tail[LOG_TAIL_BYTES] __attribute__((aligned(64))); /* a ring; see oplog.c */
};

#endif
