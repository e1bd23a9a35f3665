/* Carrying out one libc call; see act.h. The order of things is told in hooks.c. */
#include "act.h"

#include "decide.h"
#include "doom.h"
#include "files.h"
#include "harm.h"
#include "kernel.h"
#include "load.h"
#include "lock.h"
#include "match.h"
#include "process.h"
#include "recorder.h"

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

static long run(const struct request *request)
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

/* Execute the call with what the rules want done to its data. */
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
        record_failed_sync(operation, order->amount != 0 ? FLAG_DROPPED : 0);
    }
    return -(long)order->error;
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

static long perform(struct operation *operation)
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
    const long result = decision.failing.generation != 0 ? fail(operation, &decision.failing)
                                                         : execute_harmed(operation, &decision);
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

/* True when nothing but the clock depends on this call: no log is kept, no rule names the call, nobody is to die. Then
 * the descriptor need not be confirmed, nor its name be looked at. */
static bool is_unwatched(const struct control *control, enum call call)
{
    return !is_recording(control) && !is_doomed(control) && !may_concern(control, (unsigned)call);
}

long act_on_descriptor(const struct request *request, int fd, int64_t offset, uint64_t size)
{
    struct file file;
    struct control *control = attached();
    if (descriptor_is_known(fd) && is_unwatched(control, request->call)) {
        atomic_fetch_add(&control->clock, 1);
        return run(request);
    }
    if (!file_of_descriptor(control, fd, &file)) {
        return run(request);
    }
    struct operation operation = {control, request, &file.name, NULL, fd, offset, size, 0, file.opening};
    return perform(&operation);
}

static long act_on_names(const struct request *request, const struct name *name, const struct name *other,
                         struct opening *opening)
{
    struct operation operation = {attached(), request, name, other, -1, -1, 0, 0, {0, 0, 0}};
    const long result = perform(&operation);
    if (opening != NULL) {
        *opening = operation.opening;
    }
    return result;
}

/* The text of a marker: what follows MARKER_FOLDER in the name; NULL when the name is no marker. */
static const char *marker_text(const struct name *name)
{
    static const char folder[] = MARKER_FOLDER;
    for (size_t i = 0; i < sizeof folder - 1; i++) {
        if (name->text[i] != folder[i]) {
            return NULL;
        }
    }
    return name->text + sizeof folder - 1;
}

long act_on_path(const struct request *request, int folder, const char *path)
{
    struct name name;
    if (!name_of_path(attached(), folder, path, &name)) {
        return run(request);
    }
    const char *marker = marker_text(&name);
    if (marker != NULL && request->call == CALL_unlink) {
        record_event(attached(), KIND_MARKER, marker);
        return 0;
    }
    return act_on_names(request, &name, NULL, NULL);
}

long act_on_two_paths(const struct request *request, int folder, const char *path, int other_folder, const char *other)
{
    struct name names[2];
    const bool first = name_of_path(attached(), folder, path, &names[0]);
    const bool second = name_of_path(attached(), other_folder, other, &names[1]);
    if (!first && !second) {
        return run(request);
    }
    return act_on_names(request, first ? &names[0] : &names[1], first && second ? &names[1] : NULL, NULL);
}

long act_open(const struct request *request, int folder, const char *path, int named)
{
    struct name name;
    struct opening opening = {0, 0, 0};
    struct control *control = attached();
    const bool inside = name_of_path(control, folder, path, &name);
    const long fd = inside ? act_on_names(request, &name, NULL, &opening) : run(request);
    if (fd >= 0 && is_recording(control)) {
        if (is_borrower()) {
            return fd;
        }
        if (!inside) {
            record_late_open(control, (int)fd, (uint32_t)request->arguments[2]);
        }
    }
    if (fd >= 0 && inside && named) {
        descriptor_opened((int)fd, &name, &opening);
    } else if (fd >= 0) {
        descriptor_forget((int)fd); /* a link may still lead into the root: its first use will tell */
    }
    return fd;
}

long act_close(const struct request *request, int fd)
{
    struct file file;
    struct control *control = attached();
    if (log_owns(fd)) {
        return -EBADF;
    }
    const bool inside = file_of_descriptor(control, fd, &file);
    if (is_recording(control) && is_borrower()) {
        file.opening.handle = 0; /* the parent's descriptor stays open: nothing to record, nothing to forget */
    } else {
        descriptor_forget(fd);
    }
    if (!inside) {
        return run(request);
    }
    struct operation operation = {control, request, &file.name, NULL, fd, -1, 0, 0, file.opening};
    return perform(&operation);
}
