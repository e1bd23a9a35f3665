/* Descriptors as numbers: copied, replaced, closed in ranges; see numbers.c. Each returns what the kernel returned. */
#ifndef CHAOS_NUMBERS_H
#define CHAOS_NUMBERS_H

/* dup(2). */
long number_copy(int fd);

/* dup2(2) with `same_allowed`, else dup3(2). */
long number_copy_onto(int from, int to, int flags, int same_allowed);

/* fcntl(2). */
long number_control(int fd, int command, long argument);

/* close_range(2). */
long numbers_close(unsigned first, unsigned last, int flags);

#endif
