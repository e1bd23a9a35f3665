/* Temporary files and folders under names of the shim's own making; see temporary.c. */
#ifndef CHAOS_TEMPORARY_H
#define CHAOS_TEMPORARY_H

#include "act.h"

/* mkstemp(3) and its kin; `tail` is the length of what follows the six X. */
int temporary_file(enum call call, char *pattern, int tail, int flags);

/* mkdtemp(3). */
char *temporary_folder(enum call call, char *pattern);

#endif
