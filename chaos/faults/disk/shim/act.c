/* Carrying out one libc call; see act.h. The order of things is told in hooks.c. */
#include "act.h"

#include "decide.h"
#include "files.h"
#include "kernel.h"
#include "load.h"
#include "lock.h"
#include "match.h"
#include "recorder.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { VECTOR_LIMIT = 64 };

static const uint64_t SLICE_NS = UINT64_C(5000000); /* how late a delayed call may notice that its rule is gone */

static void fired(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error)
{
    record(operation, order, amount, error);
    counter_add(&operation->control->rules[order->slot].fired, order->generation, 1);
}

/* Sleep for the order's time, or until its rule is disarmed. */
static void delay(const struct operation *operation, const struct order *order)
{
    struct rule *rule = &operation->control->rules[order->slot];
    const uint64_t begin = kernel_now_ns();
    uint64_t slept = 0;
    fired(operation, order, order->amount, 0);
    while (slept < order->amount && atomic_load(&rule->generation) == order->generation) {
        const uint64_t rest = order->amount - slept;
        kernel_sleep_ns(rest < SLICE_NS ? rest : SLICE_NS);
        slept = kernel_now_ns() - begin;
    }
    counter_add(&rule->used, order->generation, slept);
}

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

static long perform(struct operation *operation)
{
    struct decision decision;
    operation->clock = atomic_fetch_add(&operation->control->clock, 1) + 1;
    decide(operation, &decision);

    long result;
    if (decision.delaying.generation != 0) {
        delay(operation, &decision.delaying);
    }
    if (decision.killing.generation != 0 && decision.killing.action == ACTION_KILL) {
        fired(operation, &decision.killing, 0, 0);
        kernel_die();
    }
    if (decision.failing.generation != 0) {
        fired(operation, &decision.failing, 0, decision.failing.error);
        if (operation->request->call == CALL_close) {
            execute(operation, false, 0);
        }
        result = -(long)decision.failing.error;
    } else if (decision.cutting.generation != 0) {
        record(operation, &decision.cutting, decision.keep, 0);
        struct rule *rule = &operation->control->rules[decision.cutting.slot];
        counter_add(decision.cutting.action == ACTION_FULL ? &rule->shortened : &rule->fired,
                    decision.cutting.generation, 1);
        result = execute(operation, true, decision.keep);
    } else {
        result = execute(operation, false, 0);
    }
    settle(operation, &decision, result);
    if (decision.killing.generation != 0) {
        fired(operation, &decision.killing, 0, 0);
        kernel_die();
    }
    return result;
}

long act_on_descriptor(const struct request *request, int fd, int64_t offset, uint64_t size)
{
    struct file file;
    struct control *control = attached();
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
