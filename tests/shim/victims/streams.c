/* Write a file by stdio in every way it has, over its end and back, and say with the exit status whether that worked. */
#include <stdio.h>

int main(int count, char **words)
{
    FILE *file = count > 1 ? fopen(words[1], "w+") : NULL;
    if (file == NULL) {
        return 2;
    }
    for (int line = 0; line < 1000; line++) {
        fprintf(file, "line %d\n", line);
        fputs("a text\n", file);
        fputc('.', file);
    }
    fseek(file, 100, SEEK_SET);
    fwrite("0123456789", 1, 10, file);
    fseek(file, 0, SEEK_END);
    fwrite("the end", 1, 7, file);
    const int failed = fflush(file) != 0 || ferror(file) != 0;
    return (fclose(file) != 0 || failed) ? 1 : 0;
}
