/* A plain C program: counts the words of stdin, of an input at a path of the caller's, and of its arguments. With a
   second argument it does something that WebAssembly forbids instead. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long words(FILE *file) {
    long count = 0;
    int in_word = 0;
    for (int c; (c = getc(file)) != EOF;) {
        if (isspace(c)) {
            in_word = 0;
        } else if (!in_word) {
            in_word = 1;
            count++;
        }
    }
    return count;
}

static int divide(volatile int number, volatile int by) {
    return number / by; /* line 23 */
}

int main(int argc, char **argv) {
    const char *name = getenv("LABEL");
    if (argc > 2) {
        return divide(1, atoi(argv[2]));
    }
    printf("%s: stdin %ld\n", name ? name : "-", words(stdin));
    FILE *file = fopen(argv[1], "r");
    if (!file) {
        perror(argv[1]);
        return 3;
    }
    printf("%s: %s %ld\n", name ? name : "-", argv[1], words(file));
    FILE *made = fopen("/out/made", "w");
    if (!made || fputs("made by C\n", made) < 0 || fclose(made) != 0) {
        perror("/out/made");
        return 4;
    }
    return 0;
}
