/* Which file a descriptor means, and whether it is in scope; see files.c. */
#ifndef CHAOS_FILES_H
#define CHAOS_FILES_H

#include "control.h"
#include "names.h"

#include <stdbool.h>

/* What the operation log knows of an open file. */
struct opening {
    uint64_t recording; /* the recording that `handle` belongs to; 0: none */
    uint64_t handle;    /* the clock of its OPEN or ADOPT record */
    uint32_t flags;     /* those of its open flags that decide where and how writes go */
};

/* An open file: the name it is known by, which is the one it was opened under, and its place in the log. */
struct file {
    struct name name;
    struct opening opening;
};

/* Find the file open as `fd`; false when it is out of scope. A folder's name ends in "/". */
bool file_of_descriptor(const struct control *control, int fd, struct file *file);

/* True when `fd` is known to be in scope, but for what libc did behind the hooks' back. Costs no system call. */
bool descriptor_is_known(int fd);

/* Remember that `fd` was just opened under `name`. */
void descriptor_opened(int fd, const struct name *name, const struct opening *opening);

/* Remember what the log calls the file open as `fd`. */
void descriptor_logged(int fd, const struct opening *opening);

/* Remember that `to` was just made a copy of `from`, where the log must know that both are one open file. */
void descriptor_copied(int from, int to);

/* Remember that the flags of the open file behind `fd`, and behind its copies, were changed. */
void descriptor_flags(int fd, uint32_t flags);

/* Forget what `fd` was: it is being closed, or another file is about to take the number. */
void descriptor_forget(int fd);

/* The same for all numbers from `first` to `last`, both included. */
void descriptors_forget(unsigned first, unsigned last);

#endif
