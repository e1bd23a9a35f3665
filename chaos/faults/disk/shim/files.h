/* Which file a path or a descriptor means, and whether it is in scope; see files.c. */
#ifndef CHAOS_FILES_H
#define CHAOS_FILES_H

#include "control.h"

#include <stdbool.h>
#include <stddef.h>

enum { NAME_BYTES = 512 };

/* A name relative to the root: "sqlite/main.db-wal". A longer one is cut at its end. */
struct name {
    size_t length;
    char text[NAME_BYTES];
};

/* Name the file at `path`, taken from the folder open as `folder` when it is relative; false when it is out of scope.
 * Purely lexical: no link is followed and nothing need exist. */
bool name_of_path(const struct control *control, int folder, const char *path, struct name *name);

/* Name the file open as `fd`; false when it is out of scope. A folder's name ends in "/". */
bool name_of_descriptor(const struct control *control, int fd, struct name *name);

/* Remember that `fd` was just opened under `name`. */
void descriptor_opened(int fd, const struct name *name);

/* Forget what `fd` was: it is being closed, or another file is about to take the number. */
void descriptor_forget(int fd);

/* The same for all numbers from `first` to `last`, both included. */
void descriptors_forget(unsigned first, unsigned last);

#endif
