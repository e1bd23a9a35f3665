/* mkstemp and its kin. libc's open the file from inside, where no hook sees it, so they are done here: six characters
 * from the kernel's random source, tried until the name is new, as mkstemp(3) says. */
#include "temporary.h"

#include "carry.h"
#include "kernel.h"

enum { PLACE_COUNT = 6, TRY_COUNT = 1000 };

/* The place of the six X; NULL, with errno set, when they are not there. */
static char *find_places(char *pattern, int tail)
{
    size_t length = 0;
    while (pattern[length] != '\0') {
        length++;
    }
    if (tail < 0 || length < PLACE_COUNT + (size_t)tail) {
        answer(-EINVAL);
        return NULL;
    }
    char *places = pattern + length - (size_t)tail - PLACE_COUNT;
    for (unsigned i = 0; i < PLACE_COUNT; i++) {
        if (places[i] != 'X') {
            answer(-EINVAL);
            return NULL;
        }
    }
    return places;
}

static void fill(char *places)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    uint64_t random = 0;
    if (kernel(__NR_getrandom, (long)&random, sizeof random, 0, 0, 0, 0) != sizeof random) {
        random = kernel_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
    }
    for (unsigned i = 0; i < PLACE_COUNT; i++) {
        places[i] = letters[random % (sizeof letters - 1)];
        random /= sizeof letters - 1;
    }
}

int temporary_file(enum call call, char *pattern, int tail, int flags)
{
    char *places = find_places(pattern, tail);
    if (places == NULL) {
        return -1;
    }
    const int all_flags = (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL;
    long result = -EEXIST;
    for (unsigned turn = 0; turn < TRY_COUNT && result == -EEXIST; turn++) {
        fill(places);
        const struct request request = {call, WHOLE, __NR_openat, {AT_FDCWD, (long)pattern, all_flags, 0600, 0, 0}};
        result = act_open(&request, AT_FDCWD, pattern, 1);
    }
    return (int)answer(result);
}

char *temporary_folder(enum call call, char *pattern)
{
    char *places = find_places(pattern, 0);
    long result = places == NULL ? -EINVAL : -EEXIST;
    for (unsigned turn = 0; turn < TRY_COUNT && result == -EEXIST; turn++) {
        fill(places);
        const struct request request = {call, WHOLE, __NR_mkdirat, {AT_FDCWD, (long)pattern, 0700, 0, 0, 0}};
        result = act_on_path(&request, AT_FDCWD, pattern);
    }
    return answer(result) < 0 ? NULL : pattern;
}
