/* Killing all processes of a run at one moment.
 *
 * The word `doomed` ends every program that had attached by then at its next call in scope, children that it forked
 * included; who attaches later, to recover, lives. While a log is kept the word is stored under the recording lock, so
 * nothing that any process does after that moment is executed: it is one power cut for all. SIGKILL is sent besides, for
 * those that make no calls; only to processes that are still the ones that attached, since numbers are reused.
 */
#include "doom.h"

#include "kernel.h"
#include "process.h"

void doom(struct control *control)
{
    const uint64_t count = atomic_load(&control->attached);
    const uint32_t own = kernel_getpid();
    atomic_store(&control->doomed, count);
    for (uint64_t i = 0; i < count && i < PID_COUNT; i++) {
        const uint64_t entry = atomic_load(&control->pids[i]);
        const uint32_t pid = (uint32_t)entry;
        if (pid != 0 && pid != own && (uint32_t)birth_of(pid) == (uint32_t)(entry >> 32)) {
            kernel(__NR_kill, (long)pid, SIGNAL_KILL, 0, 0, 0, 0);
        }
    }
}
