/* The rule matcher as a plain program, run under address and undefined-behaviour sanitizers.
 *
 * Globs are compared with a second, recursive matcher over every pair of short strings from a small alphabet; rules,
 * counters and budgets are put through the states that a harness and victims in a race can leave behind.
 */
#include "match.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks;

static void expect(int holds, const char *what)
{
    checks++;
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

static bool plain_match(const char *pattern, const char *text)
{
    if (*pattern == '\0') return *text == '\0';
    if (*pattern == '*') return plain_match(pattern + 1, text) || (*text != '\0' && plain_match(pattern, text + 1));
    return *text != '\0' && (*pattern == '?' || *pattern == *text) && plain_match(pattern + 1, text + 1);
}

/* The string number `index` over `alphabet`, in a heap block of exactly its size, so that an overrun is seen. */
static char *string_of(unsigned index, const char *alphabet)
{
    const unsigned base = (unsigned)strlen(alphabet);
    char text[32];
    size_t length = 0;
    for (; index != 0; index = (index - 1) / base) text[length++] = alphabet[(index - 1) % base];
    char *copy = malloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static void check_globs(void)
{
    for (unsigned p = 0; p < 1365; p++) {
        char *pattern = string_of(p, "ab*?");
        for (unsigned t = 0; t < 364; t++) {
            char *text = string_of(t, "ab/");
            expect(glob_matches(pattern, text) == plain_match(pattern, text), pattern);
            free(text);
        }
        free(pattern);
    }
    expect(glob_matches("sqlite/*-wal", "sqlite/main.db-wal"), "the commit log");
    expect(glob_matches("redis/*", "redis/appendonlydir/a.aof"), "a star crosses slashes");
    expect(glob_matches("sqlite/*", "sqlite/"), "a folder's own descriptor");
    expect(!glob_matches("sqlite/*", "sqlite"), "a folder named by path");
    expect(!glob_matches("sqlite/*", "sqlite2/main.db"), "another folder");
}

static struct rule *whole_rule(struct control *control, uint64_t generation)
{
    struct rule *rule = &control->rules[3];
    memset(rule, 0, sizeof *rule);
    rule->calls = UINT64_C(1) << 5 | UINT64_C(1) << 63;
    rule->nth = 2;
    rule->count = 3;
    rule->action = ACTION_ERRNO;
    strcpy(rule->id, "f0");
    strcpy(rule->glob, "sqlite/*");
    rule->checksum = rule_checksum(rule, generation);
    atomic_store(&rule->generation, generation);
    return rule;
}

static void check_rules(struct control *control)
{
    _Atomic uint64_t verified = 0;
    struct order order;
    struct rule *rule = whole_rule(control, 7);
    expect(rule_matches(control, 3, &verified, 5, "sqlite/a", NULL, &order), "a whole rule");
    expect(order.generation == 7 && order.slot == 3 && order.nth == 2, "its copy");
    expect(rule_matches(control, 3, &verified, 63, "sqlite/a", NULL, &order), "the last call");
    expect(!rule_matches(control, 3, &verified, 6, "sqlite/a", NULL, &order), "another call");
    expect(!rule_matches(control, 3, &verified, 5, "redis/a", NULL, &order), "another file");
    expect(rule_matches(control, 3, &verified, 5, "redis/a", "sqlite/b", &order), "a rename's second name");
    atomic_store(&rule->generation, 0);
    expect(!rule_matches(control, 3, &verified, 5, "sqlite/a", NULL, &order), "a disarmed rule");
    atomic_store(&rule->generation, 8);
    expect(!rule_matches(control, 3, &verified, 5, "sqlite/a", NULL, &order), "a rule of another generation's sum");
    rule = whole_rule(control, 9);
    rule->nth = 1;
    expect(!rule_matches(control, 3, &verified, 5, "sqlite/a", NULL, &order), "a rule changed after its sum");
    rule = whole_rule(control, 9);
    memset(rule->glob, '*', GLOB_BYTES);
    rule->checksum = rule_checksum(rule, 9);
    expect(!rule_matches(control, 3, &verified, 5, "sqlite/a", NULL, &order), "a glob without an end");
}

static void check_orders(void)
{
    const struct order once = {.nth = 2, .count = 1};
    const struct order ever = {.nth = 3, .count = 0};
    const struct order late = {.nth = UINT64_MAX, .count = UINT64_MAX};
    expect(!order_acts(&once, 1) && order_acts(&once, 2) && !order_acts(&once, 3), "once");
    expect(!order_acts(&ever, 2) && order_acts(&ever, 3) && order_acts(&ever, 1000), "for ever");
    expect(!order_acts(&once, 0) && order_acts(&late, UINT64_MAX), "the ends");
}

static void check_counters(struct control *control)
{
    struct rule *rule = whole_rule(control, 1);
    expect(counter_add(&rule->matched, 1, 1) == 1 && counter_add(&rule->matched, 1, 4) == 5, "it counts");
    expect(counter_add(&rule->matched, 2, 1) == 1, "a new generation starts at 0");
    expect(counter_add(&rule->matched, 1, 1) == 0, "a late call of the old one is dropped");
    expect(counter_value(&rule->matched, 2) == 1 && counter_value(&rule->matched, 1) == 0, "and not seen");
    atomic_store(&rule->matched, UINT64_C(65535) << 48 | 9);
    expect(counter_add(&rule->matched, 1, 1) == 1, "generations wrap");
    expect(counter_add(&rule->matched, 65535, 1) == 0, "also for late calls");

    atomic_store(&rule->limit, UINT64_C(1) << 48 | 10);
    expect(budget_take(rule, 1, 6) == 6 && budget_take(rule, 1, 6) == 4, "cut at the edge");
    expect(budget_take(rule, 1, 6) == 0, "then nothing");
    budget_return(rule, 1, 3);
    expect(budget_take(rule, 1, 6) == 3, "what was returned");
    budget_return(rule, 2, 3);
    expect(budget_take(rule, 1, 1) == 0, "a stranger returns nothing");
    expect(budget_take(rule, 2, 1) == 0, "no budget for another generation");
    atomic_store(&rule->limit, UINT64_C(1) << 48 | 12);
    expect(budget_take(rule, 1, UINT64_MAX) == 2, "a raised budget");
}

static void check_draws(void)
{
    const uint64_t one = UINT64_C(1) << 32;
    struct order order = {.seed = 7, .probability = one};
    for (uint64_t number = 0; number < 1000; number++) expect(order_draws(&order, number), "always");
    order.probability = one / 4;
    unsigned drawn = 0;
    for (uint64_t number = 0; number < 10000; number++) drawn += order_draws(&order, number);
    expect(drawn > 2200 && drawn < 2800, "a quarter");
    expect(order_draws(&order, 5) == order_draws(&order, 5), "the same again");

    expect(order_covers(&order, -1, 0), "no range covers all");
    order.first = 10;
    order.end = 20;
    expect(order_covers(&order, 19, 1) && order_covers(&order, 0, 11) && order_covers(&order, 10, 0), "touching");
    expect(!order_covers(&order, 20, 1) && !order_covers(&order, 0, 10) && !order_covers(&order, -1, 5), "beside");

    for (uint64_t place = 0; place < 1100; place += 37) {
        for (uint64_t size = 0; size < 1500; size += 41) {
            for (order.number = 0; order.number < 5; order.number++) {
                order.amount = 512;
                const uint64_t keep = order_tear(&order, place, size);
                expect(keep < size || keep == 0, "less than all");
                expect(keep == 0 || (place + keep) % 512 == 0, "at a boundary");
                expect(keep != 0 || place / 512 == (place + (size != 0 ? size - 1 : 0)) / 512, "none only when none is crossed");
            }
        }
    }

    order.amount = 1000;
    expect(order_delay(&order, 0) == 1000, "fixed");
    order.third = 2000;
    expect(order_delay(&order, UINT64_C(1) << 19) == 2000, "per byte");
    order.second = 1000;
    order.spread = SPREAD_UNIFORM;
    uint64_t longest = 0;
    for (order.number = 0; order.number < 1000; order.number++) {
        const uint64_t delay = order_delay(&order, 0);
        expect(delay >= 1000 && delay < 2000, "uniform");
    }
    order.spread = SPREAD_TAIL;
    unsigned below = 0;
    for (order.number = 0; order.number < 1000; order.number++) {
        const uint64_t delay = order_delay(&order, 0);
        below += delay < 2000;
        longest = delay > longest ? delay : longest;
    }
    expect(below > 400 && below < 600 && longest > 50000 && longest <= DELAY_MAX, "a tail");
    order.amount = UINT64_MAX / 2;
    expect(order_delay(&order, UINT64_MAX) == DELAY_MAX, "cut");
}

int main(void)
{
    struct control *control = calloc(1, sizeof *control);
    check_globs();
    check_rules(control);
    check_orders();
    check_counters(control);
    check_draws();
    free(control);
    printf("%lu checks hold\n", checks);
    return 0;
}
