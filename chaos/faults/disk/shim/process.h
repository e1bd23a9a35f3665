/* Processes, told apart from later ones under the same number by the moment of their birth. */
#ifndef CHAOS_PROCESS_H
#define CHAOS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* When a process was born, in clock ticks since the boot; 0 when there is no such process. */
uint64_t birth_of(uint32_t pid);

/* Who makes a call. In a child of vfork it is its parent, which stands still meanwhile. */
struct identity {
    uint32_t pid;
    uint32_t thread;
    uint64_t birth;
};

/* Who we are: remembered, so that it costs no system call. */
struct identity own_identity(void);

/* True when a thread has ended, or is a zombie. */
bool thread_is_gone(uint32_t pid, uint32_t thread);

/* True in a child of vfork, which shares its parent's memory and must leave the parent's tables alone. */
bool is_borrower(void);

#endif
