/* Attaching to the control file when a program starts; see load.c. */
#ifndef CHAOS_LOAD_H
#define CHAOS_LOAD_H

#include "control.h"

#include <stdint.h>

/* The control file, mapped. Never NULL: a program that cannot attach has ended with EXIT_UNFAULTED. */
struct control *attached(void);

/* How many programs had attached before this one. */
extern uint64_t attach_number;

enum { EXIT_UNFAULTED = 86 };

#endif
