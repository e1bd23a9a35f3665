/* Carrying out one libc call: finding its file, and whether anybody cares; see act.h. The rest is in perform.c. */
#include "act.h"

#include "decide.h"
#include "doom.h"
#include "files.h"
#include "kernel.h"
#include "load.h"
#include "perform.h"
#include "process.h"
#include "recorder.h"

#include <stdatomic.h>
#include <stdbool.h>

/* True when only the clock depends on this call: no log is kept, nobody is to die, and no rule names the call or means
 * the file. Then the descriptor need not be confirmed. */
static bool is_unwatched(const struct control *control, enum call call, int fd, uint64_t edits)
{
    const enum knowledge knowledge = descriptor_knowledge(fd, edits);
    return knowledge != KNOWN_TO_NOBODY && !is_recording(control) && !is_doomed(control) &&
           (knowledge == KNOWN_SPARED || !may_concern(control, (unsigned)call));
}

long act_on_descriptor(const struct request *request, int fd, int64_t offset, uint64_t size)
{
    struct file file;
    struct control *control = attached();
    const uint64_t edits = atomic_load_explicit(&control->edits, memory_order_acquire);
    if (is_unwatched(control, request->call, fd, edits)) {
        atomic_fetch_add(&control->clock, 1);
        return run(request);
    }
    if (!file_of_descriptor(control, fd, &file)) {
        return run(request);
    }
    if (edits != 0 && file.name.text[file.name.length - 1] != '/' && spares(control, &file.name)) {
        descriptor_spared(fd, &file, edits); /* not folders: closedir closes them inside libc */
    }
    struct operation operation = {control, request, &file.name, NULL, fd, offset, size, 0, file.opening};
    return perform(&operation);
}

static long act_on_names(const struct request *request, const struct name *name, const struct name *other,
                         struct opening *opening)
{
    struct operation operation = {attached(), request, name, other, -1, -1, 0, 0, {0, 0, 0}};
    const long result = perform(&operation);
    if (opening != NULL) {
        *opening = operation.opening;
    }
    return result;
}

/* The text of a marker: what follows MARKER_FOLDER in the name; NULL when the name is no marker. */
static const char *marker_text(const struct name *name)
{
    static const char folder[] = MARKER_FOLDER;
    for (size_t i = 0; i < sizeof folder - 1; i++) {
        if (name->text[i] != folder[i]) {
            return NULL;
        }
    }
    return name->text + sizeof folder - 1;
}

long act_on_path(const struct request *request, int folder, const char *path)
{
    struct name name;
    if (!name_of_path(attached(), folder, path, &name)) {
        return run(request);
    }
    const char *marker = marker_text(&name);
    if (marker != NULL && request->call == CALL_unlink) {
        record_event(attached(), KIND_MARKER, marker);
        return 0;
    }
    return act_on_names(request, &name, NULL, NULL);
}

long act_on_two_paths(const struct request *request, int folder, const char *path, int other_folder, const char *other)
{
    struct name names[2];
    const bool first = name_of_path(attached(), folder, path, &names[0]);
    const bool second = name_of_path(attached(), other_folder, other, &names[1]);
    if (!first && !second) {
        return run(request);
    }
    return act_on_names(request, first ? &names[0] : &names[1], first && second ? &names[1] : NULL, NULL);
}

long act_open(const struct request *request, int folder, const char *path, int named)
{
    struct name name;
    struct opening opening = {0, 0, 0};
    struct control *control = attached();
    const bool inside = name_of_path(control, folder, path, &name);
    const long fd = inside ? act_on_names(request, &name, NULL, &opening) : run(request);
    if (fd >= 0 && is_recording(control)) {
        if (is_borrower()) {
            return fd;
        }
        if (!inside) {
            record_late_open(control, (int)fd, (uint32_t)request->arguments[2]);
        }
    }
    if (fd >= 0 && inside && named) {
        descriptor_opened((int)fd, &name, &opening);
    } else if (fd >= 0) {
        descriptor_forget((int)fd); /* a link may still lead into the root: its first use will tell */
    }
    return fd;
}

long act_close(const struct request *request, int fd)
{
    struct file file;
    struct control *control = attached();
    const bool inside = file_of_descriptor(control, fd, &file);
    if (is_recording(control) && is_borrower()) {
        file.opening.handle = 0; /* the parent's descriptor stays open: nothing to record, nothing to forget */
    } else {
        descriptor_forget(fd);
    }
    if (!inside) {
        return run(request);
    }
    struct operation operation = {control, request, &file.name, NULL, fd, -1, 0, 0, file.opening};
    return perform(&operation);
}
