/* Prints where each field of the control file lies, for comparison with chaos/faults/disk/layout.py. */
#include "control.h"
#include "oplog.h"

#include <stddef.h>
#include <stdio.h>

#define FIELD(type, name) printf(#type "." #name " %zu %zu\n", offsetof(struct type, name), sizeof(((struct type *)0)->name));

int main(void)
{
    FIELD(control, magic) FIELD(control, abi) FIELD(control, reserved) FIELD(control, total_bytes)
    FIELD(control, armed) FIELD(control, attached) FIELD(control, recorded) FIELD(control, source_sha256)
    FIELD(control, root) FIELD(control, alias) FIELD(control, log) FIELD(control, pids)
    FIELD(control, clock) FIELD(control, recording) FIELD(control, doomed) FIELD(control, edits) FIELD(control, recordings) FIELD(control, log_bytes)
    FIELD(control, lost) FIELD(control, log_written) FIELD(control, holder) FIELD(control, waiters) FIELD(control, pending) FIELD(control, log_behind)
    FIELD(control, rules) FIELD(control, records) FIELD(control, log_tail)
    FIELD(rule, generation) FIELD(rule, checksum) FIELD(rule, calls) FIELD(rule, nth) FIELD(rule, count)
    FIELD(rule, amount) FIELD(rule, action) FIELD(rule, error) FIELD(rule, probability) FIELD(rule, seed)
    FIELD(rule, first) FIELD(rule, end) FIELD(rule, second) FIELD(rule, third) FIELD(rule, spread) FIELD(rule, id)
    FIELD(rule, glob) FIELD(rule, matched) FIELD(rule, fired) FIELD(rule, shortened) FIELD(rule, used)
    FIELD(rule, limit)
    FIELD(record, sequence) FIELD(record, clock) FIELD(record, time_ns) FIELD(record, offset) FIELD(record, size)
    FIELD(record, amount) FIELD(record, pid) FIELD(record, call) FIELD(record, slot) FIELD(record, generation)
    FIELD(record, action) FIELD(record, error) FIELD(record, id) FIELD(record, tail)
    printf("magic %llu 0\n", (unsigned long long)CHAOS_MAGIC);
    printf("total %zu 0\n", sizeof(struct control));
    printf("end %d 0\n", ACTION_END);
    printf("kinds %d %zu\n", KIND_END, sizeof(struct log_header));
    return 0;
}
