/* What the rules do to a call and its data; see harm.h. */
#include "harm.h"

#include "kernel.h"
#include "match.h"
#include "recorder.h"

static const uint64_t SLICE_NS = UINT64_C(5000000); /* how late a delayed call may notice that its rule is gone */

uint64_t injected(const struct operation *operation, const struct order *order, uint64_t amount, uint32_t error)
{
    record(operation, order, amount, error);
    return counter_add(&operation->control->rules[order->slot].fired, order->generation, 1);
}

void harm_delay(const struct operation *operation, const struct order *order, uint64_t nanoseconds)
{
    struct rule *rule = &operation->control->rules[order->slot];
    const uint64_t begin = kernel_now_ns();
    uint64_t slept = 0;
    injected(operation, order, nanoseconds, 0);
    while (slept < nanoseconds && atomic_load(&rule->generation) == order->generation) {
        const uint64_t rest = nanoseconds - slept;
        kernel_sleep_ns(rest < SLICE_NS ? rest : SLICE_NS);
        slept = kernel_now_ns() - begin;
    }
    counter_add(&rule->used, order->generation, slept);
}

long harm_lie(struct operation *operation, const struct order *order)
{
    struct recording recording;
    const bool transfers = operation->request->sizing != WHOLE;
    const long result = transfers ? (long)operation->size : 0;
    const bool recorded = is_recording(operation->control) && recording_begin(operation, &recording);
    const bool advances = transfers && operation->offset < 0;
    injected(operation, order, 0, 0);
    operation->offset = place_before(operation);
    if (advances) {
        kernel_seek(operation->fd, result, SEEK_FROM_HERE);
    }
    if (recorded) {
        recording_end(operation, &recording, result, FLAG_LIED);
    }
    return result;
}

/* A number for a name: the same file under the same name rots in the same places. */
static uint64_t name_number(const struct name *name)
{
    uint64_t number = 0;
    for (size_t i = 0; i < name->length; i++) {
        number = mixed(number, (unsigned char)name->text[i]);
    }
    return number;
}

/* The byte `at` of what the call has read; NULL when its parts end before. */
static unsigned char *byte_at(const struct request *request, uint64_t at)
{
    if (request->sizing == BYTES) {
        return (unsigned char *)request->arguments[1] + at;
    }
    const struct iovec *part = (const struct iovec *)request->arguments[1];
    for (long left = request->arguments[2]; left > 0; left--, part++) {
        if (at < part->iov_len) {
            return (unsigned char *)part->iov_base + at;
        }
        at -= part->iov_len;
    }
    return NULL;
}

void harm_rot(const struct operation *operation, const struct order *order, uint64_t size)
{
    const uint64_t unit = order->amount;
    const uint64_t seed = order->seed ^ name_number(operation->name);
    /* A read that moved the position has done so by now. */
    const int64_t place = operation->offset >= 0 ? operation->offset : place_before(operation) - (int64_t)size;
    uint64_t flipped = 0;
    for (uint64_t block = (uint64_t)place / unit; place >= 0 && block * unit < (uint64_t)place + size; block++) {
        const uint64_t draw = mixed(seed, block);
        const uint64_t spot = block * unit + draw % unit;
        const bool rotten = mixed(~seed, block) >> 32 < order->probability && order_covers(order, (int64_t)spot, 1);
        if (rotten && spot >= (uint64_t)place && spot < (uint64_t)place + size) {
            unsigned char *byte = byte_at(operation->request, spot - (uint64_t)place);
            if (byte != NULL) {
                *byte = (unsigned char)(*byte ^ 1u << (draw >> 61));
                flipped++;
            }
        }
    }
    if (flipped > 0) {
        injected(operation, order, flipped, 0);
        counter_add(&operation->control->rules[order->slot].used, order->generation, flipped);
    }
}

bool harm_misdirect(struct operation *operation, const struct order *order, struct request *moved)
{
    const bool advances = operation->offset < 0;
    injected(operation, order, order->amount, 0);
    *moved = *operation->request;
    operation->offset = place_before(operation) + (int64_t)order->amount;
    moved->number = moved->sizing == BYTES ? __NR_pwrite64 : __NR_pwritev2;
    moved->arguments[3] = operation->offset;
    return advances;
}
