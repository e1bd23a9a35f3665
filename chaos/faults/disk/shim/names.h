/* What a path or the kernel calls a file, as a name relative to the root; see names.c. */
#ifndef CHAOS_NAMES_H
#define CHAOS_NAMES_H

#include "control.h"

#include <asm/stat.h>
#include <stdbool.h>
#include <stddef.h>

enum { NAME_BYTES = 512, NAME_LENGTH_MAX = NAME_BYTES - 2, PATH_BYTES = 4096 };

/* Kinds of files in st_mode. */
enum { MODE_TYPE = 0170000, MODE_FILE = 0100000, MODE_FOLDER = 0040000, MODE_PIPE = 0010000 };

/* A name relative to the root: "sqlite/main.db-wal". A longer one is cut at its end, to NAME_LENGTH_MAX bytes. */
struct name {
    size_t length;
    char text[NAME_BYTES];
};

/* Name the file at `path`, taken from the folder open as `folder` when it is relative; false when it is out of scope.
 * Purely lexical: no link is followed and nothing need exist. */
bool name_of_path(const struct control *control, int folder, const char *path, struct name *name);

/* Name the file open as `fd` as the kernel names it now; false when it is out of scope or neither a regular file nor
 * a folder. A folder's name ends in "/"; a deleted file has the name it had last. */
bool name_of_open_file(const struct control *control, int fd, const struct stat *status, struct name *name);

/* Name an absolute path without "." and ".."; false when it is out of scope. */
bool name_below_root(const struct control *control, const char *path, struct name *name);

/* Let the name of a folder end in "/". */
void name_mark_folder(struct name *name, const struct stat *status);

/* Read where the kernel says `fd` leads; returns the length, 0 on failure. `path` has PATH_BYTES. */
size_t descriptor_path(int fd, char *path);

#endif
