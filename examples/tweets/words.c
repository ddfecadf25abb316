/* A step in C: counts the words of a text. It declares what it reads and makes in the custom section `lockstep:interface`, as
   steps in Rust do, so a notebook can call it and a pipeline needs to say no more than its name.

   zig cc --target=wasm32-wasi -Os -o words.wasm words.c */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__asm__(".section \".custom_section.lockstep:interface\",\"\",@\n"
        ".ascii \"{\\\"lockstep\\\":1,\\\"step\\\":\\\"count\\\",\\\"doc\\\":\\\"Count the words of a text.\\\","
        "\\\"inputs\\\":[{\\\"name\\\":\\\"text\\\",\\\"doc\\\":\\\"the text\\\",\\\"media_type\\\":\\\"text/plain\\\"}],"
        "\\\"outputs\\\":[{\\\"name\\\":\\\"words\\\",\\\"doc\\\":\\\"word and count, by word\\\",\\\"media_type\\\":\\\"text/csv\\\"}]}\\n\"\n"
        ".text\n");

enum { LONGEST = 64 };

typedef struct {
    char word[LONGEST];
    long count;
} Entry;

static Entry *entries;
static size_t used, room;

static int by_word(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->word, ((const Entry *)b)->word);
}

/* Takes in a word; puts off joining those that are equal. */
static int add(const char *word) {
    if (used == room) {
        room = room ? 2 * room : 1024;
        entries = realloc(entries, room * sizeof *entries);
        if (!entries) {
            return -1;
        }
    }
    strcpy(entries[used].word, word);
    entries[used++].count = 1;
    return 0;
}

static int read_words(FILE *text) {
    char word[LONGEST];
    size_t length = 0;
    for (int c;;) {
        c = getc(text);
        if (c != EOF && (isalpha(c) || (c == '\'' && length))) {
            if (length + 1 < LONGEST) {
                word[length++] = (char)tolower(c);
            }
            continue;
        }
        if (length) {
            word[length] = '\0';
            if (add(word)) {
                return -1;
            }
        }
        length = 0;
        if (c == EOF) {
            return ferror(text) ? -1 : 0;
        }
    }
}

int main(void) {
    FILE *text = fopen("/in/text", "r");
    if (!text || read_words(text)) {
        perror("/in/text");
        return 1;
    }
    qsort(entries, used, sizeof *entries, by_word);
    FILE *words = fopen("/out/words", "w");
    if (!words) {
        perror("/out/words");
        return 1;
    }
    fputs("word,count\n", words);
    for (size_t i = 0; i < used;) {
        size_t next = i;
        while (next < used && !strcmp(entries[i].word, entries[next].word)) {
            next++;
        }
        fprintf(words, "%s,%zu\n", entries[i].word, next - i);
        i = next;
    }
    return fclose(words) ? 1 : 0;
}
