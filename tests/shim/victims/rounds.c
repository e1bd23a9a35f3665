/* For each letter that it reads: write a block to the file named, sync it, and say what came of both.
 *
 * w does so itself, t in a new thread, f in a new process. Answers "write=4 sync=0", with the negative errno of what
 * failed. Meant to be linked statically too.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int file;

static void *work(void *unused)
{
    const long written = write(file, "0123", 4);
    const long first = written < 0 ? -errno : written;
    const long synced = fsync(file) < 0 ? -errno : 0;
    printf("write=%ld sync=%ld\n", first, synced);
    fflush(stdout);
    return unused;
}

int main(int count, char **words)
{
    if (count < 2 || (file = open(words[1], O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0) {
        return 1;
    }
    for (int letter = getchar(); letter != EOF; letter = getchar()) {
        pthread_t thread;
        if (letter == 'w') {
            work(NULL);
        } else if (letter == 't' && pthread_create(&thread, NULL, work, NULL) == 0) {
            pthread_join(thread, NULL);
        } else if (letter == 'f') {
            if (fork() == 0) {
                work(NULL);
                _exit(0);
            }
            wait(NULL);
        }
    }
    return 0;
}
