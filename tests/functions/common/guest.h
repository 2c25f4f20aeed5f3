// What every C guest shares: reading standard input whole, writing standard output, and ending with a clear
// message. Exit codes: 0 success, 1 the input cannot be used, 2 the arguments cannot be used.
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Each guest defines both.
extern const char *const guest_name;
extern const char *const guest_usage;

enum { EXIT_INPUT = 1, EXIT_USAGE = 2 };

typedef struct {
    unsigned char *bytes; // followed by one NUL that is not counted
    size_t len;
} Input;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", guest_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_INPUT);
}

__attribute__((noreturn, format(printf, 1, 2))) static void usage_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", guest_name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n%s", guest_usage);
    va_end(args);
    exit(EXIT_USAGE);
}

__attribute__((noreturn)) static inline void show_usage(void) {
    fputs(guest_usage, stdout);
    exit(fflush(stdout) == 0 ? 0 : EXIT_INPUT);
}

static inline void *allocate(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory) fail("out of memory: %zu more bytes were wanted", size);
    return memory;
}

static inline void *allocate_zeroed(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory: %zu items of %zu bytes were wanted", count, size);
    return memory;
}

static inline void *reallocate(void *old, size_t size) {
    void *memory = realloc(old, size ? size : 1);
    if (!memory) fail("out of memory: %zu bytes were wanted", size);
    return memory;
}

// Reads standard input to its end. The guest ends with an error if there is more than `bytes_max`.
static inline Input read_input(size_t bytes_max) {
    size_t capacity = 64 * 1024, len = 0;
    unsigned char *bytes = allocate(capacity);
    for (;;) {
        if (len + 1 >= capacity) {
            capacity *= 2;
            bytes = reallocate(bytes, capacity);
        }
        ssize_t count = read(STDIN_FILENO, bytes + len, capacity - len - 1);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail("standard input cannot be read: %s", strerror(errno));
        if (count == 0) break;
        len += (size_t)count;
        if (len > bytes_max) fail("the input is longer than %zu bytes", bytes_max);
    }
    bytes[len] = 0;
    return (Input){bytes, len};
}

static inline void write_output(const void *data, size_t len) {
    const unsigned char *bytes = data;
    while (len > 0) {
        ssize_t count = write(STDOUT_FILENO, bytes, len);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) fail("standard output cannot be written: %s", strerror(errno));
        bytes += count;
        len -= (size_t)count;
    }
}

// Ends the program after output through stdio: an error that shows only at the last flush counts too.
__attribute__((noreturn)) static inline void finish(void) {
    if (fflush(stdout) != 0 || ferror(stdout)) fail("standard output cannot be written");
    exit(0);
}

// A whole number within limits, or a usage error that names the option.
static inline uint64_t parse_count(const char *option, const char *text, uint64_t min, uint64_t max) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno || value < min || value > max)
        usage_error("%s wants a whole number from %llu to %llu, not \"%s\"", option, (unsigned long long)min,
                    (unsigned long long)max, text);
    return value;
}

// The value of the option at `*position`, which moves on.
static inline const char *option_value(int argc, char **argv, int *position) {
    if (*position + 1 >= argc) usage_error("%s wants a value", argv[*position]);
    return argv[++*position];
}

// A JSON string with its quotes. The bytes are valid UTF-8.
static inline void write_json_string(FILE *out, const char *text, size_t len) {
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c == '\n') fputs("\\n", out);
        else if (c == '\r') fputs("\\r", out);
        else if (c == '\t') fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f) fprintf(out, "\\u%04x", c);
        else fputc(c, out);
    }
    fputc('"', out);
}

#endif
