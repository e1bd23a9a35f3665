/* From libc's parameters to the kernel's, and back. The bodies of the wrappers, whatever symbol they stand behind.
 *
 * Each returns what libc's function would and sets errno when it fails, but for on_descriptor, which returns what the
 * kernel did, since posix_fallocate reports errors differently.
 */
#ifndef CHAOS_CARRY_H
#define CHAOS_CARRY_H

#include "act.h"

#include <linux/uio.h>
#include <stddef.h>

/* Turn the kernel's answer into libc's. */
long answer(long result);

/* The checked forms end the program when the buffer is too small, as libc's do. */
void demand(int holds);

/* True when an open with these flags has a mode. */
int takes_mode(int flags);

long open_file(enum call call, int folder, const char *path, int flags, unsigned mode);
long close_file(enum call call, int fd);

/* Read or write `size` bytes; `offset` -1 is where the file stands. */
long move_bytes(enum call call, long number, int fd, const void *buffer, size_t size, long offset);
long move_vector(enum call call, long number, int fd, const struct iovec *parts, int count, long offset, int flags);

/* Copy between files; `arguments` are the kernel's six, `offset` is the place in `to`, -1 for where it stands. */
long copy_bytes(enum call call, long number, int to, const long *arguments, int64_t offset, size_t size);

long on_descriptor(enum call call, long number, int fd, long b, long c, long d, int64_t offset, long size);
long on_path(enum call call, long number, int folder, const char *path, long argument);
long on_path_alone(enum call call, long number, const char *path, long argument);

/* Rename or link `old` as `new`. */
long move_file(enum call call, long number, int from, const char *old, int to, const char *new, unsigned flags);
long link_symbolically(enum call call, const char *target, int folder, const char *path);

#endif
