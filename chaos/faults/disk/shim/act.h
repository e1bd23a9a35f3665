/* Carrying out one libc call: find its file, let the rules have their say, run it, record what was done. */
#ifndef CHAOS_ACT_H
#define CHAOS_ACT_H

#include <stdint.h>

enum call {
#define CALL(name, family, shape, manual, ...) CALL_##name,
#define SAME(symbol, name)
#define VARIANT(symbol, name, shape)
#define TRACK(name, shape)
#include "calls.def"
#undef CALL
#undef SAME
#undef VARIANT
#undef TRACK
    CALL_COUNT
};

_Static_assert(CALL_COUNT <= 64, "a rule names calls by the bits of one 64-bit word");

/* How a transfer can be shortened. */
enum sizing {
    WHOLE,  /* not at all */
    BYTES,  /* argument 2 is a number of bytes */
    VECTOR, /* argument 1 is an array of struct iovec, argument 2 its length */
};

/* A call as the kernel takes it. */
struct request {
    enum call call;
    enum sizing sizing;
    long number;
    long arguments[6];
};

/* Each returns what the kernel returned or, negative, the injected errno. `offset` is -1 for "where the file stands";
 * `size` is the bytes asked for. */
long act_on_descriptor(const struct request *request, int fd, int64_t offset, uint64_t size);
long act_on_path(const struct request *request, int folder, const char *path);
long act_on_two_paths(const struct request *request, int folder, const char *path, int other_folder, const char *other);

/* Like act_on_path, and remembers the new descriptor; `named` is 0 when the file opened has no name (O_TMPFILE). */
long act_open(const struct request *request, int folder, const char *path, int named);

/* Forgets the descriptor, which is released even when the call is made to fail (close(2), "Dealing with errors"). */
long act_close(const struct request *request, int fd);

/* Kernel number of remove(3), which is two calls: unlink, or rmdir when the path is a folder. */
enum { NUMBER_REMOVE = -1 };

#endif
