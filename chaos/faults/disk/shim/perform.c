/* Carrying out one call on a file in scope: the rules have their say, then it is run; see perform.h. */
#include "perform.h"

#include "doom.h"
#include "harm.h"
#include "kernel.h"
#include "kinds.h"
#include "lock.h"
#include "match.h"
#include "recorder.h"
#include "revert.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { VECTOR_LIMIT = 64 };

/* Transfer at most `keep` bytes of a vector. Only its first VECTOR_LIMIT parts are used: a shorter transfer still. */
static long run_vector(const struct request *request, uint64_t keep)
{
    struct iovec parts[VECTOR_LIMIT];
    const struct iovec *given = (const struct iovec *)request->arguments[1];
    long count = 0;
    while (count < request->arguments[2] && count < VECTOR_LIMIT && keep > 0) {
        parts[count] = given[count];
        if (parts[count].iov_len > keep) {
            parts[count].iov_len = (__kernel_size_t)keep;
        }
        keep -= parts[count].iov_len;
        count++;
    }
    return kernel(request->number, request->arguments[0], (long)parts, count, request->arguments[3],
                  request->arguments[4], request->arguments[5]);
}

long run(const struct request *request)
{
    const long *a = request->arguments;
    if (request->number != NUMBER_REMOVE) {
        return kernel(request->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    const long result = kernel(__NR_unlinkat, AT_FDCWD, a[0], 0, 0, 0, 0);
    return result == -EISDIR ? kernel(__NR_unlinkat, AT_FDCWD, a[0], AT_REMOVEDIR, 0, 0, 0) : result;
}

static long run_cut(const struct request *request, uint64_t keep)
{
    if (request->sizing == VECTOR) {
        return run_vector(request, keep);
    }
    struct request shorter = *request;
    shorter.arguments[2] = (long)keep;
    return run(&shorter);
}

/* After the call: return what a budget granted in vain, count a success. */
static void settle(const struct operation *operation, const struct decision *decision, long result)
{
    struct rule *rules = operation->control->rules;
    const struct order *budget = &decision->budget;
    if (budget->generation != 0 && (result < 0 || operation->request->sizing != WHOLE)) {
        const uint64_t moved = result > 0 ? (uint64_t)result : 0;
        budget_return(&rules[budget->slot], budget->generation, decision->granted - moved);
    }
    for (uint64_t left = result >= 0 ? decision->counting : 0; left != 0; left &= left - 1) {
        const unsigned slot = (unsigned)__builtin_ctzll(left);
        counter_add(&rules[slot].fired, decision->generations[slot], 1);
    }
}

/* Execute the call, or its first `keep` bytes when it is cut, and record it where a log is kept. */
static long execute(struct operation *operation, bool cut, uint64_t keep)
{
    struct recording recording;
    const bool recorded = is_recording(operation->control) && recording_begin(operation, &recording);
    const long result = cut ? run_cut(operation->request, keep) : run(operation->request);
    if (recorded) {
        recording_end(operation, &recording, result, 0);
    }
    return result;
}

/* Execute the call with its data harmed as ordered. */
static long execute_harmed(struct operation *operation, const struct decision *decision)
{
    if (decision->lying.generation != 0) {
        return harm_lie(operation, &decision->lying);
    }
    if (decision->cutting.generation != 0) {
        const struct order *order = &decision->cutting;
        struct rule *rule = &operation->control->rules[order->slot];
        record(operation, order, decision->keep, 0);
        counter_add(order->action == ACTION_FULL ? &rule->shortened : &rule->fired, order->generation, 1);
        return execute(operation, true, decision->keep);
    }
    if (decision->misdirecting.generation != 0) {
        struct request moved;
        const struct request *request = operation->request;
        const bool advances = harm_misdirect(operation, &decision->misdirecting, &moved);
        operation->request = &moved;
        const long result = execute(operation, false, 0);
        operation->request = request;
        if (advances && result > 0) {
            kernel_seek(operation->fd, result, SEEK_FROM_HERE);
        }
        return result;
    }
    const long result = execute(operation, false, 0);
    if (decision->rotting.generation != 0 && result > 0) {
        harm_rot(operation, &decision->rotting, (uint64_t)result);
    }
    return result;
}

static long fail(struct operation *operation, const struct order *order)
{
    const uint64_t count = injected(operation, order, 0, order->error);
    if (order->action == ACTION_FULL && order->third != 0 && count == order->third) {
        counter_add(&operation->control->rules[order->slot].limit, order->generation, order->second);
    }
    if (operation->request->call == CALL_close) {
        execute(operation, false, 0);
    }
    if (order->action == ACTION_SYNC_FAIL) {
        record_failed_sync(operation, order->amount == PAGES_KEPT ? 0 : FLAG_DROPPED);
    }
    return -(long)order->error;
}

/* Fail a sync and give the file back what it held before, which is known; or sync it all the same, unharmed. */
static long fail_reverting(struct operation *operation, const struct order *order)
{
    struct control *control = operation->control;
    const bool outer = recording_lock(control);
    long result = 0;
    if (revert_apply(operation)) {
        result = fail(operation, order);
    } else {
        result = execute(operation, false, 0);
        if (result == 0) {
            revert_forget(operation);
        }
    }
    if (outer) {
        recording_unlock(control);
    }
    return result;
}

/* Execute the call, and keep what it changes for a sync that may fail. */
static long execute_noted(struct operation *operation, const struct decision *decision)
{
    struct control *control = operation->control;
    const bool outer = recording_lock(control);
    const bool syncs = kind_of(operation) == KIND_SYNC;
    if (!syncs) {
        revert_note(operation);
    }
    const long result = execute_harmed(operation, decision);
    if (syncs && result == 0 && decision->lying.generation == 0) {
        revert_forget(operation);
    }
    if (outer) {
        recording_unlock(control);
    }
    return result;
}

static bool reverts(const struct order *order)
{
    return order->action == ACTION_SYNC_FAIL && order->amount == PAGES_REVERTED;
}

static long execute_or_fail(struct operation *operation, const struct decision *decision)
{
    const struct order *failing = &decision->failing;
    if (failing->generation != 0) {
        return reverts(failing) ? fail_reverting(operation, failing) : fail(operation, failing);
    }
    return decision->noting ? execute_noted(operation, decision) : execute_harmed(operation, decision);
}

static bool kills_all(const struct order *order)
{
    return order->action == ACTION_KILL_ALL || order->action == ACTION_KILL_ALL_AFTER;
}

/* Die by the order's kill. Others that must die too are doomed first, so that no call of theirs is executed later. */
static _Noreturn void die(const struct operation *operation, const struct order *order)
{
    injected(operation, order, 0, 0);
    if (kills_all(order)) {
        doom(operation->control);
    }
    kernel_die();
}

long perform(struct operation *operation)
{
    struct decision decision;
    struct control *control = operation->control;
    if (is_doomed(control)) {
        kernel_die();
    }
    operation->clock = atomic_fetch_add(&control->clock, 1) + 1;
    decide(operation, &decision);
    const struct order *killing = &decision.killing;
    if (decision.delaying.generation != 0) {
        harm_delay(operation, &decision.delaying, decision.delay_ns);
        if (is_doomed(control)) {
            kernel_die();
        }
    }
    const bool locked =
        killing->generation != 0 && kills_all(killing) && is_recording(control) && recording_lock(control);
    if (killing->generation != 0 && (killing->action == ACTION_KILL || killing->action == ACTION_KILL_ALL)) {
        die(operation, killing);
    }
    const long result = execute_or_fail(operation, &decision);
    settle(operation, &decision, result);
    if (killing->generation != 0) {
        die(operation, killing);
    }
    if (decision.cutting.generation != 0 && decision.cutting.action == ACTION_TEAR) {
        kernel_die();
    }
    if (locked) {
        recording_unlock(control);
    }
    return result;
}
