/* Carrying out one libc call; see act.h. The order of things is told in hooks.c. */
#include "act.h"

#include "files.h"
#include "kernel.h"
#include "load.h"
#include "match.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { ERROR_LIMIT = 8, VECTOR_LIMIT = 64 };

static const uint64_t SLICE_NS = UINT64_C(5000000); /* how late a delayed call may notice that its rule is gone */

static const uint8_t allowed[CALL_COUNT][ERROR_LIMIT] = {
#define CALL(name, family, shape, manual, ...) [CALL_##name] = {__VA_ARGS__},
#define SAME(symbol, name)
#define VARIANT(symbol, name, shape)
#define TRACK(name, shape)
#include "calls.def"
#undef CALL
#undef SAME
#undef VARIANT
#undef TRACK
};

/* Per rule, the generation whose checksum this process has verified. */
static _Atomic uint64_t verified[RULE_COUNT];

struct operation {
    struct control *control;
    const struct request *request;
    const struct name *name;
    const struct name *other; /* the second path of a rename, or NULL */
    int fd;                   /* -1 when the call names its file by path */
    int64_t offset;
    uint64_t size;
    uint64_t clock;
};

/* What the rules together want. An order whose generation is 0 is absent. */
struct decision {
    struct order failing;
    struct order delaying;
    struct order cutting; /* ACTION_SHORT, or ACTION_FULL at the edge of its budget */
    struct order killing;
    uint64_t keep;         /* bytes that may be transferred */
    struct order budget;   /* where `granted` bytes were taken */
    uint64_t granted;
    uint64_t counting; /* bit n: rule n counts this call if it succeeds */
    uint16_t generations[RULE_COUNT]; /* set only where `counting` is */
};

static bool allows(enum call call, uint32_t error)
{
    for (unsigned i = 0; i < ERROR_LIMIT; i++) {
        if (allowed[call][i] != 0 && allowed[call][i] == error) {
            return true;
        }
    }
    return false;
}

static void record(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error)
{
    struct control *control = operation->control;
    const uint64_t index = atomic_fetch_add(&control->recorded, 1);
    struct record *entry = &control->records[index % RECORD_COUNT];
    atomic_store(&entry->sequence, 0);
    entry->clock = operation->clock;
    entry->time_ns = kernel_now_ns();
    entry->offset = operation->offset;
    if (operation->offset < 0 && operation->fd >= 0 && operation->request->sizing != WHOLE) {
        const long place = kernel(__NR_lseek, operation->fd, 0, 1 /* SEEK_CUR */, 0, 0, 0);
        entry->offset = place < 0 ? -1 : place;
    }
    entry->size = operation->size;
    entry->amount = amount;
    entry->pid = kernel_getpid();
    entry->call = (uint32_t)operation->request->call;
    entry->slot = order->slot;
    entry->generation = (uint32_t)order->generation;
    entry->action = order->action;
    entry->error = error;
    for (unsigned i = 0; i < ID_BYTES; i++) {
        entry->id[i] = control->rules[order->slot].id[i];
    }
    const struct name *name = operation->name;
    const size_t skip = name->length < TAIL_BYTES ? 0 : name->length - (TAIL_BYTES - 1);
    for (size_t i = 0; i < TAIL_BYTES; i++) {
        entry->tail[i] = skip + i < name->length ? name->text[skip + i] : '\0';
    }
    atomic_store(&entry->sequence, index + 1);
}

/* Let one matching rule that acts on this call change the decision. */
static void obey(const struct operation *operation, struct rule *rule, const struct order *order,
                 struct decision *decision)
{
    const bool settled = decision->failing.generation != 0;
    switch ((enum action)order->action) {
    case ACTION_ERRNO:
        if (!settled) {
            decision->failing = *order;
        }
        break;
    case ACTION_DELAY:
        if (order->amount > decision->delaying.amount || decision->delaying.generation == 0) {
            decision->delaying = *order;
        }
        break;
    case ACTION_SHORT:
        if (order->amount < decision->keep) {
            decision->cutting = *order;
            decision->keep = order->amount;
        }
        break;
    case ACTION_KILL:
    case ACTION_KILL_AFTER:
        if (decision->killing.generation == 0) {
            decision->killing = *order;
        }
        break;
    case ACTION_COUNT:
        decision->counting |= UINT64_C(1) << order->slot;
        decision->generations[order->slot] = (uint16_t)order->generation;
        break;
    case ACTION_FULL:
        if (settled || decision->budget.generation != 0) {
            break;
        }
        decision->granted = budget_take(rule, order->generation, decision->keep);
        if (decision->granted < decision->keep && operation->request->sizing == WHOLE) {
            budget_return(rule, order->generation, decision->granted); /* an allocation is all or nothing */
            decision->granted = 0;
        }
        if (decision->granted == 0) {
            decision->failing = *order;
        } else {
            decision->budget = *order;
            if (decision->granted < decision->keep) {
                decision->cutting = *order;
                decision->keep = decision->granted;
            }
        }
        break;
    case ACTION_NONE:
    case ACTION_END:
        break;
    }
}

/* Some actions have nothing to do on some calls, and such a call is not counted as a match. */
static bool concerns(const struct operation *operation, const struct order *order)
{
    switch ((enum action)order->action) {
    case ACTION_ERRNO:
        return allows(operation->request->call, order->error);
    case ACTION_SHORT:
        return operation->request->sizing != WHOLE && operation->size > order->amount;
    case ACTION_FULL:
        return operation->size != 0;
    default:
        return order->action < ACTION_END;
    }
}

static void decide(const struct operation *operation, struct decision *decision)
{
    struct control *control = operation->control;
    const char *other = operation->other != NULL ? operation->other->text : NULL;
    uint64_t armed = atomic_load_explicit(&control->armed, memory_order_acquire);
    for (uint32_t slot = 0; armed != 0; slot++, armed >>= 1) {
        struct order order;
        if ((armed & 1) == 0 || !rule_matches(control, slot, &verified[slot], (unsigned)operation->request->call,
                                              operation->name->text, other, &order)) {
            continue;
        }
        struct rule *rule = &control->rules[slot];
        if (concerns(operation, &order) && order_acts(&order, counter_add(&rule->matched, order.generation, 1))) {
            obey(operation, rule, &order, decision);
        }
    }
}

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
    if (decision->budget.generation != 0 && operation->request->sizing != WHOLE) {
        const uint64_t moved = result > 0 ? (uint64_t)result : 0;
        budget_return(&rules[decision->budget.slot], decision->budget.generation, decision->granted - moved);
    }
    for (uint32_t slot = 0; result >= 0 && decision->counting >> slot != 0; slot++) {
        if ((decision->counting >> slot & 1) != 0) {
            counter_add(&rules[slot].fired, decision->generations[slot], 1);
        }
        if (slot == RULE_COUNT - 1) {
            break;
        }
    }
}

static long perform(struct operation *operation)
{
    struct decision decision;
    decision.failing.generation = 0;
    decision.delaying.generation = 0;
    decision.cutting.generation = 0;
    decision.killing.generation = 0;
    decision.budget.generation = 0;
    decision.delaying.amount = 0;
    decision.granted = 0;
    decision.counting = 0;
    decision.keep = operation->size;
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
            run(operation->request);
        }
        result = -(long)decision.failing.error;
    } else if (decision.cutting.generation != 0) {
        record(operation, &decision.cutting, decision.keep, 0);
        struct rule *rule = &operation->control->rules[decision.cutting.slot];
        counter_add(decision.cutting.action == ACTION_FULL ? &rule->shortened : &rule->fired,
                    decision.cutting.generation, 1);
        result = run_cut(operation->request, decision.keep);
    } else {
        result = run(operation->request);
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
    struct name name;
    struct control *control = attached();
    if (!name_of_descriptor(control, fd, &name)) {
        return run(request);
    }
    struct operation operation = {control, request, &name, NULL, fd, offset, size, 0};
    return perform(&operation);
}

static long act_on_names(const struct request *request, const struct name *name, const struct name *other)
{
    struct operation operation = {attached(), request, name, other, -1, -1, 0, 0};
    return perform(&operation);
}

long act_on_path(const struct request *request, int folder, const char *path)
{
    struct name name;
    return name_of_path(attached(), folder, path, &name) ? act_on_names(request, &name, NULL) : run(request);
}

long act_on_two_paths(const struct request *request, int folder, const char *path, int other_folder, const char *other)
{
    struct name names[2];
    const bool first = name_of_path(attached(), folder, path, &names[0]);
    const bool second = name_of_path(attached(), other_folder, other, &names[1]);
    if (!first && !second) {
        return run(request);
    }
    return act_on_names(request, first ? &names[0] : &names[1], first && second ? &names[1] : NULL);
}

long act_open(const struct request *request, int folder, const char *path, int named)
{
    struct name name;
    const bool inside = name_of_path(attached(), folder, path, &name);
    const long fd = inside ? act_on_names(request, &name, NULL) : run(request);
    if (fd >= 0 && inside && named) {
        descriptor_opened((int)fd, &name);
    } else if (fd >= 0) {
        descriptor_forget((int)fd); /* a link may still lead into the root: its first use will tell */
    }
    return fd;
}

long act_close(const struct request *request, int fd)
{
    struct name name;
    struct control *control = attached();
    const bool inside = name_of_descriptor(control, fd, &name);
    descriptor_forget(fd);
    if (!inside) {
        return run(request);
    }
    struct operation operation = {control, request, &name, NULL, fd, -1, 0, 0};
    return perform(&operation);
}
