/* stdio's streams on files in scope; see streams.c. A stream is libc's FILE, here a void pointer. */
#ifndef CHAOS_STREAMS_H
#define CHAOS_STREAMS_H

#include "act.h"

/* fopen(3). */
void *stream_open(enum call call, const char *path, const char *mode);

/* fdopen(3). */
void *stream_of_descriptor(int fd, const char *mode);

/* freopen(3). */
void *stream_reopen(const char *path, const char *mode, void *stream);

/* fileno(3). */
int stream_descriptor(void *stream);

#endif
