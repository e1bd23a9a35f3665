/* Descriptors as numbers: copied, replaced, closed in ranges.
 *
 * A copy starts unknown, and what it is will be asked on first use; while a log is kept, it is entered as the same open
 * file. In a child of vfork the tables are the parent's and stay as they are.
 */
#include "numbers.h"

#include "files.h"
#include "kernel.h"
#include "load.h"
#include "process.h"
#include "recorder.h"

enum { CLOSE_RANGE_ON_EXEC = 4 };

static bool tables_are_ours(void)
{
    return !is_recording(attached()) || !is_borrower();
}

static long copied(int from, long result)
{
    if (result >= 0 && tables_are_ours()) {
        if (is_recording(attached())) {
            descriptor_copied(from, (int)result);
        } else {
            descriptor_forget((int)result);
        }
    }
    return result;
}

long number_copy(int fd)
{
    return copied(fd, kernel(__NR_dup, fd, 0, 0, 0, 0, 0));
}

long number_copy_onto(int from, int to, int flags, int same_allowed)
{
    if (same_allowed && from == to) {
        const long result = kernel(__NR_fcntl, from, F_GETFD, 0, 0, 0, 0);
        return result < 0 ? result : to;
    }
    if (tables_are_ours()) {
        descriptor_forget(to);
    }
    return copied(from, kernel(__NR_dup3, from, to, flags, 0, 0, 0));
}

long number_control(int fd, int command, long argument)
{
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        return copied(fd, kernel(__NR_fcntl, fd, command, argument, 0, 0, 0));
    }
    if (command == F_GETOWN) {
        /* The plain command cannot tell a process group from an error. */
        struct f_owner_ex owner;
        const long result = kernel(__NR_fcntl, fd, F_GETOWN_EX, (long)&owner, 0, 0, 0);
        return result < 0 ? result : owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid;
    }
    const long result = kernel(__NR_fcntl, fd, command, argument, 0, 0, 0);
    if (command == F_SETFL && result >= 0 && is_recording(attached())) {
        const long flags = kernel(__NR_fcntl, fd, F_GETFL, 0, 0, 0, 0);
        descriptor_flags(fd, flags < 0 ? 0 : (uint32_t)flags);
    }
    return result;
}

long numbers_close(unsigned first, unsigned last, int flags)
{
    if ((flags & CLOSE_RANGE_ON_EXEC) == 0 && tables_are_ours()) {
        descriptors_forget(first, last);
    }
    return kernel(__NR_close_range, (long)first, (long)last, flags, 0, 0, 0);
}
