/* Attaching to the control file when a program starts; see load.c. */
#ifndef CHAOS_LOAD_H
#define CHAOS_LOAD_H

#include "control.h"

/* The control file, mapped. Never NULL: a program that cannot attach has ended with EXIT_UNFAULTED. */
struct control *attached(void);

enum { EXIT_UNFAULTED = 86 };

#endif
