/* libc's syscall(): system calls by number; see direct.c. */
#ifndef CHAOS_DIRECT_H
#define CHAOS_DIRECT_H

/* Make system call `number` with six `arguments`, as the hooked call that it is, if it is one. */
long direct_call(long number, const long *arguments);

#endif
