/* Writes pages of many sizes while a timer's handler writes to another file, then tells how many of each there were. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

enum { WRITES = 2000, BEATS = 500, LARGEST = 600000 };

static int beats;
static volatile sig_atomic_t beaten;

static void beat(int signal_number)
{
    (void)signal_number;
    beaten += pwrite(beats, "beat", 4, 4 * (off_t)beaten) == 4;
}

int main(int count, char **arguments)
{
    static char page[LARGEST];
    const int pages = count == 3 ? open(arguments[1], O_CREAT | O_RDWR, 0600) : -1;
    beats = count == 3 ? open(arguments[2], O_CREAT | O_RDWR, 0600) : -1;
    const struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = beat, .sa_flags = SA_RESTART};
    int written = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (pages >= 0 && (written < WRITES || beaten < BEATS)) {
        const size_t size = written % 50 == 49 ? LARGEST : (size_t)(written * 37 % 5000 + 1);
        for (size_t i = 0; i < size; i += 97) {
            page[i] = (char)written;
        }
        if (pwrite(pages, page, size, written % 10 * 1000) != (ssize_t)size) {
            return 1;
        }
        written++;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%d %d\n", written, (int)beaten);
    return 0;
}
