/* Building short texts without libc. */
#ifndef CHAOS_TEXT_H
#define CHAOS_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Add `more` at `length` as far as `room`, which includes the ending NUL, allows; returns the new length. */
static inline size_t text_add(char *text, size_t length, size_t room, const char *more)
{
    while (*more != '\0' && length + 1 < room) {
        text[length++] = *more++;
    }
    text[length] = '\0';
    return length;
}

static inline size_t text_add_number(char *text, size_t length, size_t room, uint32_t number)
{
    char digits[12];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return text_add(text, length, room, digits + at);
}

#endif
