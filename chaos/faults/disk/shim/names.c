/* What a path or the kernel calls a file, as a name relative to the root; see names.h. */
#include "names.h"

#include "kernel.h"
#include "text.h"

/* The length of `root` when `path` is that folder or lies below it, else 0. */
static size_t below(const char *root, const char *path)
{
    size_t i = 0;
    while (root[i] != '\0' && root[i] == path[i]) {
        i++;
    }
    return root[i] == '\0' && (path[i] == '/' || path[i] == '\0') ? i : 0;
}

bool name_below_root(const struct control *control, const char *path, struct name *name)
{
    size_t skip = below(control->root, path);
    if (skip == 0 && control->alias[0] != '\0') {
        skip = below(control->alias, path);
    }
    if (skip == 0) {
        return false;
    }
    path += skip;
    while (*path == '/') {
        path++;
    }
    name->length = 0;
    while (path[name->length] != '\0' && name->length < NAME_BYTES - 2) { /* room for a folder's "/" and the NUL */
        name->text[name->length] = path[name->length];
        name->length++;
    }
    name->text[name->length] = '\0';
    return true;
}

size_t descriptor_path(int fd, char *path)
{
    char link[32];
    size_t length = text_add(link, 0, sizeof link, "/proc/self/fd/");
    text_add_number(link, length, sizeof link, (uint32_t)fd);
    const long size = kernel_readlink(link, path, PATH_BYTES - 1);
    if (size <= 0) {
        return 0;
    }
    path[size] = '\0';
    return (size_t)size;
}

/* Add `path` to `result` part by part, resolving "." and ".." by spelling; returns the length, 0 when it overflows. */
static size_t add_parts(char *result, size_t length, const char *path)
{
    while (*path != '\0') {
        size_t size = 0;
        while (path[size] != '/' && path[size] != '\0') {
            size++;
        }
        if (size == 2 && path[0] == '.' && path[1] == '.') {
            while (length > 0 && result[--length] != '/') {
            }
        } else if (size != 0 && !(size == 1 && path[0] == '.')) {
            if (length + 1 + size >= PATH_BYTES) {
                return 0;
            }
            result[length++] = '/';
            for (size_t i = 0; i < size; i++) {
                result[length++] = path[i];
            }
        }
        path += size;
        while (*path == '/') {
            path++;
        }
    }
    result[length] = '\0';
    return length;
}

bool name_of_path(const struct control *control, int folder, const char *path, struct name *name)
{
    char whole[PATH_BYTES];
    size_t length = 0;
    if (path == NULL || path[0] == '\0') {
        return false;
    }
    if (path[0] != '/') {
        if (folder != AT_FDCWD) {
            length = descriptor_path(folder, whole);
        } else {
            const long size = kernel_getcwd(whole, sizeof whole);
            length = size > 1 ? (size_t)size - 1 : 0;
        }
        if (length == 0 || whole[0] != '/') {
            return false;
        }
        length = length == 1 ? 0 : length; /* the folder "/": each part brings its own slash */
    }
    return add_parts(whole, length, path) != 0 && name_below_root(control, whole, name);
}

bool name_of_open_file(const struct control *control, int fd, const struct stat *status, struct name *name)
{
    static const char deleted[] = " (deleted)";
    const unsigned type = status->st_mode & MODE_TYPE;
    char path[PATH_BYTES];
    if (type != MODE_FILE && type != MODE_FOLDER) {
        return false;
    }
    const size_t length = descriptor_path(fd, path);
    if (status->st_nlink == 0 && length > sizeof deleted - 1) {
        path[length - (sizeof deleted - 1)] = '\0'; /* an open file keeps the name it had */
    }
    if (length == 0 || !name_below_root(control, path, name)) {
        return false;
    }
    name_mark_folder(name, status);
    return true;
}

void name_mark_folder(struct name *name, const struct stat *status)
{
    if ((status->st_mode & MODE_TYPE) == MODE_FOLDER) {
        name->text[name->length++] = '/';
        name->text[name->length] = '\0';
    }
}
