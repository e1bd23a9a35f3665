/* chaosfs: a preloaded library that hurts a program's files on purpose.
 *
 * What is hooked. Every libc symbol in calls.def: opening, reading, writing, syncing, cutting, allocating, renaming,
 * deleting and closing files, and the calls that copy descriptors. Each wrapper goes straight to the kernel; libc's own
 * version is never called. Only regular files and folders below one root are in scope. For anything else a wrapper
 * costs a look-up and the system call itself.
 *
 * What happens to a call in scope. It draws a number from the clock that all processes of the run share. Each armed
 * rule whose calls and glob match counts it, and those whose turn it is (from the nth match, `count` times) act:
 *   1. delay: the longest one sleeps, in slices, so that disarming the rule wakes it;
 *   2. kill: the process gets SIGKILL; the call is not executed. Kill-all dooms every program of the run besides (doom.c);
 *   3. errno, failed sync: the call is not executed, nothing reaches the file, and it fails; of several rules the lowest
 *      slot wins. A close is executed all the same, since Linux releases the descriptor whatever close reports. A failed
 *      sync that reverts gives the file back what it held at its last sync (revert.c);
 *   4. lie: the call is not executed, and success is returned; a write moves the position in the file as if it had been;
 *   5. short: only the first bytes are really transferred, and their number is returned, without an error;
 *      full: transfers use up a budget of bytes, the one at its edge is cut short, the next ones fail with ENOSPC
 *      until the harness raises the budget or disarms the rule. Overwriting counts like growing, as on a file system
 *      that never writes in place; an allocation is granted whole or not at all;
 *      tear: only the bytes before a boundary in the file are written, then the process gets SIGKILL;
 *   6. misdirect: the bytes are written elsewhere in the file;
 *   7. otherwise the call is executed as it came; rot: then bits are flipped in what it has read;
 *   8. count: a call that succeeded is counted; kill-after: then the process gets SIGKILL, or all do.
 * What a rule draws (its turn by probability, a place, a time) is a hash of its seed and the number of the match, or of
 * the place in the file: there is no random state. All but the counting leave a record in the control file before the
 * call returns, or before the process dies.
 * errno is written only when the call fails, be it by the kernel's answer or by a rule.
 *
 * What a kill loses. What a real SIGKILL loses: the process's memory. Bytes that a write handed to the kernel stay,
 * synced or not, because the kernel lives on. Power loss is made from the operation log (recorder.c), not here.
 *
 * Names. A path is taken as spelled: made absolute from the working folder or the folder's descriptor, with "." and
 * ".." resolved, links not followed. A path that reaches the root through a link is therefore out of scope when the
 * call names it (open, rename, unlink ...), but the descriptor it opens is in scope, because the kernel is asked for
 * the real name on first use. A descriptor keeps the name under which it was opened, also after a rename. A folder's
 * descriptor has a name that ends in "/", so "sqlite/ *" (without the blank) covers the sync of that folder too.
 *
 * What is not modelled, because it does not pass these symbols:
 *   - calls that libc makes inside itself: streams that it opens without fopen or fdopen (standard output, tmpfile), aio,
 *     opendir, posix_spawn; a descriptor that comes from them is in scope from its first use by a hooked call;
 *   - writes through shared maps, io_uring, splice; where an operation log is kept they taint it (unmodelled.c);
 *   - permissions, times, extended attributes, locks, stat in all its forms;
 *   - statically linked programs, which ignore LD_PRELOAD, and those that make system calls of their own; set-user-id
 *     programs, which drop it; and programs started with a cleaned environment, when it loses LD_PRELOAD too. (With
 *     LD_PRELOAD but no CHAOS_SHIM_CONTROL they end, see load.c.) The harness therefore demands that each victim shows up
 *     in the control file's list of pids.
 * If libc closes a descriptor by itself (closedir, the fclose of a stream that it made itself) whose number was known to
 * lie outside the root, and opens a file of the root under the same number by itself, the shim goes on taking it for
 * outside. Every other reuse is noticed. posix_fallocate reports EOPNOTSUPP where glibc would write zeros instead. A
 * transfer in scope is not a cancellation point for pthread_cancel.
 *
 * Threads, forks, signals. There is no lock, no allocation and no call into libc on any path but those of stdio's own
 * functions (streams.c), so a hook may run in a signal handler and in a child forked from a threaded program. While an
 * operation log is kept there is one lock, which survives the death of its holder (lock.c). All state but the tables of
 * descriptors and streams lies in the control file. In a vfork child, which shares its parent's memory, copying
 * descriptors only makes both forget; the table asks the kernel again.
 */
#include "act.h"
#include "carry.h"
#include "direct.h"
#include "kernel.h"
#include "numbers.h"
#include "shapes.h"
#include "streams.h"
#include "temporary.h"
#include "unmodelled.h"

#include <stdarg.h>

#define HOOK __attribute__((visibility("default")))
#define TEXT_AS_IT_IS(words) #words
#define TEXT(words) TEXT_AS_IT_IS(words)

#define CALL(name, family, shape, manual, ...) HOOK SHAPE_##shape(name, CALL_##name)
#define SAME(symbol, name) HOOK extern __typeof__(name) symbol __attribute__((alias(TEXT(name))));
#define VARIANT(symbol, name, shape) HOOK SHAPE_##shape(symbol, CALL_##name)
#define TRACK(name, shape) HOOK SHAPE_##shape(name)
#include "calls.def"
