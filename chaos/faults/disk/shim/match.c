/* Rule matching; see match.h. No system call, no libc, no state of its own. */
#include "match.h"

#include <stdatomic.h>

enum { GENERATION_SHIFT = 48 };

static const uint64_t COUNT_MASK = (UINT64_C(1) << GENERATION_SHIFT) - 1;

bool glob_matches(const char *pattern, const char *text)
{
    /* On a mismatch only the latest star can help: whatever an earlier one could swallow, this one can as well. */
    const char *star = NULL;
    const char *resume = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

static uint64_t fnv1a(uint64_t sum, const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

uint64_t rule_checksum(const struct rule *rule, uint64_t generation)
{
    const size_t begin = offsetof(struct rule, calls);
    const size_t end = offsetof(struct rule, glob) + GLOB_BYTES;
    uint64_t sum = fnv1a(UINT64_C(0xcbf29ce484222325), (const unsigned char *)&generation, sizeof generation);
    return fnv1a(sum, (const unsigned char *)rule + begin, end - begin);
}

static bool is_whole(const struct rule *rule, uint64_t generation, _Atomic uint64_t *verified)
{
    if (atomic_load_explicit(verified, memory_order_relaxed) == generation) {
        return true;
    }
    if (rule->id[ID_BYTES - 1] != '\0' || rule->glob[GLOB_BYTES - 1] != '\0' ||
        rule_checksum(rule, generation) != rule->checksum) {
        return false;
    }
    atomic_store_explicit(verified, generation, memory_order_relaxed);
    return true;
}

bool rule_matches(const struct control *control, uint32_t slot, _Atomic uint64_t *verified, unsigned call,
                  const char *name, const char *other, struct order *order)
{
    const struct rule *rule = &control->rules[slot];
    const uint64_t generation = atomic_load_explicit(&rule->generation, memory_order_acquire);
    if (generation == 0 || (rule->calls >> call & 1) == 0 || !is_whole(rule, generation, verified)) {
        return false;
    }
    /* The glob is bounded by the check above even while the harness rewrites it: its last byte is always NUL. */
    if (!glob_matches(rule->glob, name) && (other == NULL || !glob_matches(rule->glob, other))) {
        return false;
    }
    *order = (struct order){
        .generation = generation,
        .nth = rule->nth,
        .count = rule->count,
        .amount = rule->amount,
        .probability = rule->probability,
        .seed = rule->seed,
        .first = rule->first,
        .end = rule->end,
        .second = rule->second,
        .third = rule->third,
        .spread = (uint32_t)rule->spread,
        .action = rule->action,
        .error = rule->error,
        .slot = slot,
    };
    /* What was read counts only if the rule was the same one all along. */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&rule->generation, memory_order_relaxed) == generation;
}

uint64_t counter_value(const counter *target, uint64_t generation)
{
    const uint64_t seen = atomic_load_explicit(target, memory_order_acquire);
    return seen >> GENERATION_SHIFT == generation ? seen & COUNT_MASK : 0;
}

uint64_t counter_add(counter *target, uint64_t generation, uint64_t amount)
{
    uint64_t seen = atomic_load_explicit(target, memory_order_acquire);
    for (;;) {
        const uint64_t owner = seen >> GENERATION_SHIFT;
        /* Generations wrap, so "newer" means less than half a turn ahead. */
        if (owner != generation && ((owner - generation) & 0xffff) < 0x8000 && owner != 0) {
            return 0;
        }
        const uint64_t count = (owner == generation ? seen & COUNT_MASK : 0) + amount;
        const uint64_t wanted = generation << GENERATION_SHIFT | (count & COUNT_MASK);
        if (atomic_compare_exchange_weak_explicit(target, &seen, wanted, memory_order_acq_rel, memory_order_acquire)) {
            return count & COUNT_MASK;
        }
    }
}

bool order_acts(const struct order *order, uint64_t number)
{
    return number >= order->nth && (order->count == 0 || number - order->nth < order->count);
}

uint64_t mixed(uint64_t seed, uint64_t number)
{
    /* The finaliser of splitmix64, over both. */
    uint64_t value = seed + (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

bool order_draws(const struct order *order, uint64_t number)
{
    return mixed(order->seed, number) >> 32 < order->probability;
}

bool order_covers(const struct order *order, int64_t place, uint64_t size)
{
    if (order->first == 0 && order->end == 0) {
        return true;
    }
    return place >= 0 && (uint64_t)place < order->end && (uint64_t)place + (size == 0 ? 1 : size) > order->first;
}

uint64_t order_delay(const struct order *order, uint64_t size)
{
    const uint64_t draw = mixed(~order->seed, order->number) >> 32;
    uint64_t more = 0;
    if (order->spread == SPREAD_UNIFORM) {
        more = (uint64_t)((double)order->second * ((double)draw / 4294967296.0));
    } else if (order->spread == SPREAD_TAIL) {
        more = (uint64_t)((double)order->second * (4294967296.0 / (double)(4294967296 - draw) - 1.0));
    }
    more = more < DELAY_MAX ? more : DELAY_MAX;
    const uint64_t total = order->amount + more + (uint64_t)((double)order->third * ((double)size / 1048576.0));
    return total < DELAY_MAX ? total : DELAY_MAX;
}

uint64_t order_tear(const struct order *order, uint64_t place, uint64_t size)
{
    const uint64_t unit = order->amount;
    const uint64_t before = unit - place % unit; /* bytes up to the first boundary behind the place */
    if (before >= size) {
        return 0;
    }
    const uint64_t boundaries = (size - 1 - before) / unit + 1;
    return before + unit * (mixed(order->seed, order->number) % boundaries);
}

uint64_t budget_take(struct rule *rule, uint64_t generation, uint64_t wanted)
{
    uint64_t seen = atomic_load_explicit(&rule->used, memory_order_acquire);
    for (;;) {
        const uint64_t owner = seen >> GENERATION_SHIFT;
        const uint64_t limit = counter_value(&rule->limit, generation);
        const uint64_t used = owner == generation ? seen & COUNT_MASK : 0;
        const uint64_t left = used < limit ? limit - used : 0;
        const uint64_t granted = wanted < left ? wanted : left;
        if (granted == 0) {
            return 0;
        }
        if (atomic_compare_exchange_weak_explicit(&rule->used, &seen, generation << GENERATION_SHIFT | (used + granted),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            return granted;
        }
    }
}

void budget_return(struct rule *rule, uint64_t generation, uint64_t unused)
{
    uint64_t seen = atomic_load_explicit(&rule->used, memory_order_acquire);
    while (seen >> GENERATION_SHIFT == generation && (seen & COUNT_MASK) >= unused) {
        if (atomic_compare_exchange_weak_explicit(&rule->used, &seen, seen - unused, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return;
        }
    }
}
