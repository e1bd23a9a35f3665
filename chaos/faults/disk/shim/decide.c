/* What the armed rules want done about one call; see decide.h. The order in which it is done is told in hooks.c. */
#include "decide.h"

#include "kernel.h"
#include "kinds.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { ERROR_LIMIT = 8 };

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

static bool allows(enum call call, uint32_t error)
{
    for (unsigned i = 0; i < ERROR_LIMIT; i++) {
        if (allowed[call][i] != 0 && allowed[call][i] == error) {
            return true;
        }
    }
    return false;
}

static bool is_appending(int fd)
{
    const long flags = kernel(__NR_fcntl, fd, F_GETFL, 0, 0, 0, 0);
    return flags >= 0 && (flags & O_APPEND) != 0;
}

static bool is_write(const struct operation *operation)
{
    return operation->request->sizing != WHOLE && kind_of(operation) == KIND_WRITE;
}

int64_t place_before(const struct operation *operation)
{
    if (operation->offset >= 0 || operation->fd < 0 || operation->request->sizing == WHOLE) {
        return operation->offset;
    }
    if (is_write(operation) && is_appending(operation->fd)) {
        struct stat status;
        return kernel_fstat(operation->fd, &status) < 0 ? -1 : status.st_size;
    }
    const long place = kernel_seek(operation->fd, 0, SEEK_FROM_HERE);
    return place < 0 ? -1 : place;
}

void record(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error)
{
    struct control *control = operation->control;
    const uint64_t index = atomic_fetch_add(&control->recorded, 1);
    struct record *entry = &control->records[index % RECORD_COUNT];
    atomic_store(&entry->sequence, 0);
    entry->clock = operation->clock;
    entry->time_ns = kernel_now_ns();
    entry->offset = place_before(operation);
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
    case ACTION_SYNC_FAIL:
        if (!settled) {
            decision->failing = *order;
        }
        break;
    case ACTION_DELAY:
        if (order_delay(order, operation->size) > decision->delay_ns || decision->delaying.generation == 0) {
            decision->delaying = *order;
            decision->delay_ns = order_delay(order, operation->size);
        }
        break;
    case ACTION_LIE:
        decision->lying = *order;
        break;
    case ACTION_ROT:
        decision->rotting = *order;
        break;
    case ACTION_MISDIRECT:
        decision->misdirecting = *order;
        break;
    case ACTION_TEAR: {
        const uint64_t keep = order_tear(order, (uint64_t)place_before(operation), operation->size);
        if (keep < decision->keep) {
            decision->cutting = *order;
            decision->keep = keep;
        }
        break;
    }
    case ACTION_SHORT:
        if (order->amount < decision->keep) {
            decision->cutting = *order;
            decision->keep = order->amount;
        }
        break;
    case ACTION_KILL:
    case ACTION_KILL_AFTER:
    case ACTION_KILL_ALL:
    case ACTION_KILL_ALL_AFTER:
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
    case ACTION_LIE:
        return is_write(operation) || kind_of(operation) == KIND_SYNC || kind_of(operation) == KIND_SYNC_RANGE ||
               kind_of(operation) == KIND_SYNC_ALL;
    case ACTION_SYNC_FAIL:
        return kind_of(operation) == KIND_SYNC && allows(operation->request->call, order->error);
    case ACTION_TEAR:
        return is_write(operation) && order->amount != 0 &&
               order_tear(order, (uint64_t)place_before(operation), operation->size) != 0;
    case ACTION_ROT:
        return operation->request->sizing != WHOLE && !is_write(operation) && order->amount != 0;
    case ACTION_MISDIRECT:
        return is_write(operation) && operation->size != 0 && !is_appending(operation->fd);
    default:
        return order->action < ACTION_END;
    }
}

bool spares(const struct control *control, const struct name *name)
{
    struct order order;
    uint64_t armed = atomic_load_explicit(&control->armed, memory_order_acquire);
    for (; armed != 0; armed &= armed - 1) {
        const uint32_t slot = (uint32_t)__builtin_ctzll(armed);
        if (rule_matches(control, slot, &verified[slot], ANY_CALL, name->text, NULL, &order)) {
            return false;
        }
    }
    return true;
}

bool may_concern(const struct control *control, unsigned call)
{
    uint64_t armed = atomic_load_explicit(&control->armed, memory_order_acquire);
    for (; armed != 0; armed &= armed - 1) {
        const struct rule *rule = &control->rules[__builtin_ctzll(armed)];
        if (atomic_load_explicit(&rule->generation, memory_order_acquire) != 0 && (rule->calls >> call & 1) != 0) {
            return true;
        }
    }
    return false;
}

void decide(const struct operation *operation, struct decision *decision)
{
    struct control *control = operation->control;
    decision->failing.generation = 0;
    decision->lying.generation = 0;
    decision->rotting.generation = 0;
    decision->misdirecting.generation = 0;
    decision->delaying.generation = 0;
    decision->delay_ns = 0;
    decision->cutting.generation = 0;
    decision->killing.generation = 0;
    decision->budget.generation = 0;
    decision->granted = 0;
    decision->keep = operation->size;
    decision->counting = 0;
    decision->noting = false;
    const char *other = operation->other != NULL ? operation->other->text : NULL;
    uint64_t armed = atomic_load_explicit(&control->armed, memory_order_acquire);
    for (; armed != 0; armed &= armed - 1) {
        const uint32_t slot = (uint32_t)__builtin_ctzll(armed);
        struct order order;
        if (!rule_matches(control, slot, &verified[slot], (unsigned)operation->request->call, operation->name->text,
                          other, &order)) {
            continue;
        }
        struct rule *rule = &control->rules[slot];
        decision->noting |= order.action == ACTION_SYNC_FAIL && order.amount == PAGES_REVERTED;
        const bool ranged = order.first != 0 || order.end != 0;
        if (!concerns(operation, &order) ||
            !order_covers(&order, ranged ? place_before(operation) : -1, operation->size)) {
            continue;
        }
        order.number = counter_add(&rule->matched, order.generation, 1);
        if (order_acts(&order, order.number) && (order.action == ACTION_ROT || order_draws(&order, order.number))) {
            obey(operation, rule, &order, decision);
        }
    }
}
