/* Many threads in several processes that use every kind of call on files of one folder at once.
 *
 * Usage: storm FOLDER THREADS TURNS CHILDREN. Each of CHILDREN + 1 processes has THREADS threads, each of which appends
 * to one shared file TURNS times and plays with a file of its own between. Calls may fail: rules may be armed. Prints how
 * many appends succeeded, and exits with 0 unless a child did not.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_ROOM = 512, BLOCK = 64, THREADS_MAX = 64 };

static const char *folder;
static int shared;
static long turns;
static _Atomic long appended;
static long planted; /* what a sanitizer must find when it is asked to: a race, and a byte too many */

static void play(long number, long turn)
{
    char path[PATH_ROOM], other[PATH_ROOM], block[BLOCK];
    snprintf(path, sizeof path, "%s/own-%d-%ld", folder, (int)getpid(), number);
    snprintf(other, sizeof other, "%s/other-%d-%ld", folder, (int)getpid(), number);
    memset(block, 'a' + (int)(turn % 26), sizeof block);
    struct iovec parts[2] = {{block, BLOCK / 2}, {block + BLOCK / 2, BLOCK / 2}};
    const int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0) {
        return;
    }
    const int copy = dup(fd);
    (void)!pwrite(fd, block, BLOCK, turn % 7 * 100);
    (void)!writev(copy, parts, 2);
    (void)!pread(fd, block, BLOCK, 0);
    lseek(fd, 0, SEEK_SET);
    (void)!readv(fd, parts, 2);
    if (turn % 5 == 0) {
        (void)!ftruncate(fd, turn % 300);
    }
    if (turn % 3 == 0) {
        fsync(fd);
        fdatasync(copy);
    }
    (void)!posix_fallocate(fd, 0, 700);
    close(copy);
    close(fd);
    rename(path, other);
    link(other, path);
    unlink(other);
    if (turn % 10 == 0) {
        FILE *stream = fopen(other, "w+");
        if (stream != NULL) {
            fprintf(stream, "turn %ld\n", turn);
            fseek(stream, 0, SEEK_SET);
            (void)!fgets(block, sizeof block, stream);
            fclose(stream);
        }
        char pattern[PATH_ROOM];
        snprintf(pattern, sizeof pattern, "%s/temporary-XXXXXX", folder);
        const int made = mkstemp(pattern);
        if (made >= 0) {
            close(made);
            remove(pattern);
        }
    }
}

static void *work(void *given)
{
    const long number = (long)given;
    for (long turn = 0; turn < turns; turn++) {
        char line[BLOCK];
        const int size = snprintf(line, sizeof line, "%d %ld %ld;", (int)getpid(), number, turn);
        if (write(shared, line, (size_t)size) == size) {
            atomic_fetch_add(&appended, 1);
        }
        play(number, turn);
#ifdef PLANT_RACE
        planted += number;
#endif
    }
#ifdef PLANT_OVERRUN
    char *bytes = malloc(BLOCK);
    memset(bytes, 1, BLOCK + (size_t)turns / (size_t)turns);
    planted = bytes[0];
    free(bytes);
#endif
    return NULL;
}

int main(int count, char **words)
{
    if (count != 5) {
        return 2;
    }
    char path[PATH_ROOM];
    pthread_t threads[THREADS_MAX];
    folder = words[1];
    const long thread_count = atol(words[2]);
    turns = atol(words[3]);
    snprintf(path, sizeof path, "%s/shared", folder);
    shared = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    long children = 0;
    bool is_child = false;
    while (!is_child && children < atol(words[4])) {
        is_child = fork() == 0;
        children += is_child ? 0 : 1;
    }
    for (long number = 0; number < thread_count; number++) {
        pthread_create(&threads[number], NULL, work, (void *)number);
    }
    for (long number = 0; number < thread_count; number++) {
        pthread_join(threads[number], NULL);
    }
    printf("%ld\n", atomic_load(&appended) + 0 * planted);
    fflush(stdout);
    int failed = 0;
    while (!is_child && children-- > 0) {
        int status = 0;
        wait(&status);
        failed |= status != 0;
    }
    return failed;
}
