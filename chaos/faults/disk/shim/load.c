/* Attaching to the control file when a program starts.
 *
 * A program that carries the shim but cannot find its rules would run un-faulted, and a test that expects to be hurt
 * would pass. So each doubt ends the process here, before main, with one line on stderr and EXIT_UNFAULTED.
 *
 * The environment is read from the kernel's copy, since a hook may run before libc has set up `environ`.
 */
#include "load.h"

#include "files.h"
#include "kernel.h"
#include "lock.h"
#include "names.h"
#include "process.h"
#include "recorder.h"
#include "text.h"

#include <stdatomic.h>
#include <stdbool.h>

#ifndef CHAOS_SOURCE_SHA256
#error "build with -DCHAOS_SOURCE_SHA256=\"...\", the hash of the sources; chaos/faults/disk/build.py does"
#endif

enum { LINE_BYTES = PATH_BYTES + 256 };

/* Found in the library's bytes by the harness, which must not load the library to ask it. */
#define MARK "chaosfs-source-sha256:"
__attribute__((used)) static const char source_mark[] = MARK CHAOS_SOURCE_SHA256;

static const char variable[] = "CHAOS_SHIM_CONTROL=";

static _Atomic(struct control *) mapped;

uint64_t attach_number;

static _Noreturn void refuse(const char *path, const char *reason)
{
    char line[LINE_BYTES];
    size_t length = text_add(line, 0, sizeof line, "chaosfs: ");
    if (path != NULL) {
        length = text_add(line, length, sizeof line, "CHAOS_SHIM_CONTROL=");
        length = text_add(line, length, sizeof line, path);
        length = text_add(line, length, sizeof line, " ");
    }
    length = text_add(line, length, sizeof line, reason);
    length = text_add(line, length, sizeof line, "; this program was to run under the file shim, so it ends here\n");
    kernel_write(2, line, length);
    kernel(__NR_exit_group, EXIT_UNFAULTED, 0, 0, 0, 0, 0);
    for (;;) {
    }
}

/* Find the variable in the environment and copy its value; false when it is not set or does not fit. */
static bool find_path(char *path)
{
    const long fd = kernel_openat(AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        refuse(NULL, "/proc/self/environ cannot be read");
    }
    char chunk[1024];
    size_t matched = 0;    /* bytes of `variable` seen at the start of this entry */
    size_t length = 0;     /* bytes of the value copied */
    bool skipping = false; /* this entry is another variable */
    bool found = false;
    long size;
    while (!found && (size = kernel_read((int)fd, chunk, sizeof chunk)) > 0) {
        for (long i = 0; i < size && !found; i++) {
            const char byte = chunk[i];
            if (matched == sizeof variable - 1) {
                if (length == PATH_BYTES) {
                    break;
                }
                path[length++] = byte;
                found = byte == '\0';
            } else if (byte == '\0') {
                matched = 0;
                skipping = false;
            } else if (!skipping && byte == variable[matched]) {
                matched++;
            } else {
                skipping = true;
            }
        }
    }
    kernel_close((int)fd);
    return found && length > 1;
}

/* The first error stops the program; an unsuitable file is never written to. */
static struct control *map_control(const char *path)
{
    const long fd = kernel_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) {
        refuse(path, "cannot be opened");
    }
    struct stat status;
    if (kernel_fstat((int)fd, &status) < 0 || (uint64_t)status.st_size < sizeof(struct control)) {
        refuse(path, "is too short to be a control file");
    }
    const long address =
        kernel(__NR_mmap, 0, (long)sizeof(struct control), PROTECTION_READ_WRITE, MAPPING_SHARED, fd, 0);
    kernel_close((int)fd);
    if (address < 0 && address > -4096) {
        refuse(path, "cannot be mapped");
    }
    struct control *control = (struct control *)address;
    if (control->magic != CHAOS_MAGIC) {
        refuse(path, "is not a control file");
    }
    if (control->abi != CHAOS_ABI || control->total_bytes != sizeof(struct control)) {
        refuse(path, "was made by another version of chaos (install the package again)");
    }
    return control;
}

static unsigned digit_value(char digit)
{
    return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

static void announce_to_log(struct control *control)
{
    char program[PATH_BYTES];
    const long size = kernel_readlink("/proc/self/exe", program, sizeof program - 1);
    program[size > 0 ? size : 0] = '\0';
    recording_lock_disown(control);
    record_event(control, KIND_ATTACH, program);
    for (int fd = 1; fd <= 2; fd++) {
        struct file file;
        if (file_of_descriptor(control, fd, &file)) {
            record_taint(control, &file.name, "stdio may write to a file inherited as standard output");
        }
    }
}

static void announce(struct control *control)
{
    const char *digits = source_mark + sizeof MARK - 1;
    for (unsigned i = 0; i < sizeof control->source_sha256; i++) {
        control->source_sha256[i] = (uint8_t)(digit_value(digits[2 * i]) << 4 | digit_value(digits[2 * i + 1]));
    }
    const uint64_t index = atomic_fetch_add(&control->attached, 1);
    attach_number = index;
    atomic_store(&control->pids[index % PID_COUNT], own_identity().birth << 32 | kernel_getpid());
}

struct control *attached(void)
{
    struct control *control = atomic_load_explicit(&mapped, memory_order_acquire);
    if (control == NULL) {
        /* Only one thread exists this early: the constructor below, or a hook called by an earlier constructor. */
        char path[PATH_BYTES];
        if (!find_path(path)) {
            refuse(NULL, "CHAOS_SHIM_CONTROL is not set");
        }
        control = map_control(path);
        announce(control);
        if (is_recording(control)) {
            announce_to_log(control);
        }
        atomic_store_explicit(&mapped, control, memory_order_release);
    }
    return control;
}

__attribute__((constructor)) static void attach_at_load(void)
{
    attached();
}
