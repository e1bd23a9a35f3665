/* Calls that no rule can name and the log cannot follow in full; see unmodelled.c. */
#ifndef CHAOS_UNMODELLED_H
#define CHAOS_UNMODELLED_H

#include "act.h"

#include <stddef.h>

/* sync(2). */
void sync_all(void);

/* mmap(2). */
void *map_file(void *address, size_t size, int protection, int flags, int fd, long offset);

/* splice(2). */
long splice_file(int from, long *from_place, int to, long *to_place, size_t size, unsigned flags);

/* An open that names its file in another way than by a path: open_by_handle_at(2), openat2(2). No rule matches it. */
long open_unnamed(long number, const long *arguments, uint32_t flags);

/* sendfile(2). */
long send_file(enum call call, int to, int from, long *place, size_t size);

/* copy_file_range(2). */
long copy_range(enum call call, int from, long *from_place, int to, long *to_place, size_t size, unsigned flags);

#endif
