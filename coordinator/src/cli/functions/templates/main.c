/* One task: its input on standard input, its result on standard output, its log on standard error. */

#include <ctype.h>
#include <stdio.h>

int main(void) {
    unsigned long bytes = 0, words = 0;
    int c, within = 0;
    while ((c = getchar()) != EOF) {
        bytes++;
        if (isspace(c)) {
            within = 0;
        } else if (!within) {
            within = 1;
            words++;
        }
    }
    fprintf(stderr, "%lu bytes\n", bytes);
    printf("{\"words\":%lu}\n", words);
    return ferror(stdin) ? 1 : 0;
}
