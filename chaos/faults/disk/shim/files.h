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
    uint64_t state; /* of the descriptor's entry when it was looked up; 0: there was none */
};

/* Find the file open as `fd`; false when it is out of scope. A folder's name ends in "/". */
bool file_of_descriptor(const struct control *control, int fd, struct file *file);

/* What is known of a descriptor without a system call, and true but for what was done behind the hooks' back. */
enum knowledge {
    KNOWN_TO_NOBODY, /* or out of scope */
    KNOWN_INSIDE,
    KNOWN_SPARED, /* in scope, and no rule that was armed at edit number `edits` means its name */
};

enum knowledge descriptor_knowledge(int fd, uint64_t edits);

/* Remember that no rule armed at edit number `edits`, which is not 0, means the name found for this descriptor. */
void descriptor_spared(int fd, const struct file *file, uint64_t edits);

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
