// Four kinds of work that `kernels` lacks: regular expressions (POSIX, from the C library), an interpreter of byte code,
// JSON read into a tree and written again, and sorting. Each round's result goes into a checksum, which is the output.
#include <regex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINES = 400,
    LINE_BYTES = 80,
    RECORDS = 30000,
    DOCUMENT_ITEMS = 1500,
    DOCUMENT_BYTES = 1 << 18,
};

static uint32_t random_state = 1;

static uint32_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static uint64_t checksum(uint64_t sum, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++) sum = (sum ^ at[i]) * 1099511628211u;
    return sum;
}

// Lines that look like a log, matched against expressions with groups.
static uint64_t regex(uint64_t round) {
    static const char *const patterns[] = {
        "([a-z]+)@([a-z]+)\\.(com|org)",
        "^([0-9]{1,3}\\.){3}[0-9]{1,3} ",
        "(error|warning): .*[0-9]+$",
    };
    uint64_t sum = round;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        regex_t compiled;
        if (regcomp(&compiled, patterns[p], REG_EXTENDED) != 0) exit(2);
        for (int i = 0; i < LINES; i++) {
            char line[LINE_BYTES];
            uint32_t r = random_word();
            snprintf(line, sizeof line, "%u.%u.%u.%u user%c@host.%s %s: took %u", r & 255, r >> 8 & 255, r >> 16 & 255,
                     r >> 24, 'a' + (int)(r % 26), r & 1 ? "com" : "net", r & 2 ? "error" : "note", r % 1000);
            regmatch_t groups[4];
            if (regexec(&compiled, line, 4, groups, 0) == 0) sum = checksum(sum, groups, sizeof groups);
        }
        regfree(&compiled);
    }
    return sum;
}

// A stack machine whose program counts primes.
enum { PUSH, LOAD, STORE, ADD, SUB, MOD, LESS, JUMP_IF_ZERO, JUMP, HALT };

static uint64_t interpreter(uint64_t round) {
    static const int32_t program[] = {
        PUSH, 2, STORE, 0,                                           // candidate = 2
        LOAD, 0, PUSH, 900, LESS, JUMP_IF_ZERO, 50,                  // 4: while candidate < 900
        PUSH, 2, STORE, 1,                                           // 11: divisor = 2
        LOAD, 1, LOAD, 0, LESS, JUMP_IF_ZERO, 36,                    // 15: while divisor < candidate
        LOAD, 0, LOAD, 1, MOD, JUMP_IF_ZERO, 43,                     // 22: no prime if it divides
        LOAD, 1, PUSH, 1, ADD, JUMP, 54,                             // 29: divisor + 1
        LOAD, 2, PUSH, 1, ADD, STORE, 2,                             // 36: count a prime
        LOAD, 0, PUSH, 1, ADD, JUMP, 58,                             // 43: candidate + 1
        HALT, HALT, HALT, HALT,                                      // 50
        STORE, 1, JUMP, 15,                                          // 54
        STORE, 0, JUMP, 4,                                           // 58
    };
    int64_t stack[16], variables[3] = {0, 0, (int64_t)round};
    int top = 0, at = 0;
    uint64_t steps = 0;
    for (;; steps++) {
        switch (program[at++]) {
            case PUSH: stack[top++] = program[at++]; break;
            case LOAD: stack[top++] = variables[program[at++]]; break;
            case STORE: variables[program[at++]] = stack[--top]; break;
            case ADD: top--; stack[top - 1] += stack[top]; break;
            case SUB: top--; stack[top - 1] -= stack[top]; break;
            case MOD: top--; stack[top - 1] %= stack[top]; break;
            case LESS: top--; stack[top - 1] = stack[top - 1] < stack[top]; break;
            case JUMP_IF_ZERO: at = stack[--top] == 0 ? program[at] : at + 1; break;
            case JUMP: at = program[at]; break;
            case HALT: return (uint64_t)variables[2] * 1000003 + steps;
        }
    }
}

// A value of JSON: numbers, texts, lists and objects, whose members are children one after the other.
struct value {
    char kind;
    double number;
    char *text;
    struct value *first, *next;
};

static const char *cursor;

static void *allocated(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) exit(2);
    return memory;
}

static char *read_text(void) {
    const char *start = ++cursor;
    while (*cursor != '"') cursor++;
    char *text = allocated((size_t)(cursor - start) + 1);
    memcpy(text, start, (size_t)(cursor++ - start));
    return text;
}

static struct value *read_value(void) {
    struct value *value = allocated(sizeof *value);
    value->kind = *cursor;
    if (*cursor == '"') {
        value->text = read_text();
    } else if (*cursor == '[' || *cursor == '{') {
        char close = *cursor++ == '[' ? ']' : '}';
        struct value **last = &value->first;
        while (*cursor != close) {
            char *name = NULL;
            if (close == '}') {
                name = read_text();
                cursor++;
            }
            *last = read_value();
            if (name) {
                struct value *member = allocated(sizeof *member);
                member->kind = ':';
                member->text = name;
                member->first = *last;
                *last = member;
            }
            last = &(*last)->next;
            if (*cursor == ',') cursor++;
        }
        cursor++;
    } else {
        char *end;
        value->kind = '0';
        value->number = strtod(cursor, &end);
        cursor = end;
    }
    return value;
}

static char *write_value(char *out, struct value *value) {
    if (value->kind == '0') return out + sprintf(out, "%.17g", value->number);
    if (value->kind == '"') return out + sprintf(out, "\"%s\"", value->text);
    if (value->kind == ':') {
        out += sprintf(out, "\"%s\":", value->text);
        return write_value(out, value->first);
    }
    *out++ = value->kind;
    for (struct value *child = value->first; child; child = child->next) {
        out = write_value(out, child);
        if (child->next) *out++ = ',';
    }
    *out++ = value->kind == '[' ? ']' : '}';
    return out;
}

static void release(struct value *value) {
    while (value) {
        struct value *next = value->next;
        release(value->first);
        free(value->text);
        free(value);
        value = next;
    }
}

static uint64_t json(uint64_t round) {
    static char document[DOCUMENT_BYTES], again[DOCUMENT_BYTES];
    char *end = document;
    *end++ = '[';
    for (int i = 0; i < DOCUMENT_ITEMS; i++) {
        uint32_t r = random_word();
        end += sprintf(end, "%s{\"id\":%d,\"name\":\"item %u\",\"price\":%u.%02u,\"tags\":[\"a%u\",\"b\",%u]}", i ? "," : "", i, r % 997,
                       r % 100, r % 100, r % 7, r % 3);
    }
    *end++ = ']';
    *end = 0;
    cursor = document;
    struct value *tree = read_value();
    char *last = write_value(again, tree);
    release(tree);
    return checksum(round, again, (size_t)(last - again));
}

struct record {
    uint32_t key;
    char name[12];
};

static int by_name(const void *left, const void *right) {
    return strcmp(((const struct record *)left)->name, ((const struct record *)right)->name);
}

static void merge_sort(struct record *records, struct record *room, size_t count) {
    if (count < 2) return;
    size_t half = count / 2;
    merge_sort(records, room, half);
    merge_sort(records + half, room, count - half);
    memcpy(room, records, half * sizeof *records);
    size_t left = 0, right = half, out = 0;
    while (left < half) {
        records[out++] = right < count && records[right].key < room[left].key ? records[right++] : room[left++];
    }
}

// The same records by name, by comparing through a pointer, and by key, by merging.
static uint64_t sort(uint64_t round) {
    static struct record records[RECORDS], room[RECORDS];
    for (int i = 0; i < RECORDS; i++) {
        records[i].key = random_word();
        snprintf(records[i].name, sizeof records[i].name, "%u", random_word() % 100000);
    }
    qsort(records, RECORDS, sizeof *records, by_name);
    uint64_t sum = checksum(round, records[RECORDS / 2].name, 4);
    merge_sort(records, room, RECORDS);
    return checksum(sum, &records[RECORDS / 3].key, sizeof records->key);
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        uint64_t (*run)(uint64_t round);
    } workloads[] = {{"regex", regex}, {"interpreter", interpreter}, {"json", json}, {"sort", sort}};
    if (count == 3) {
        unsigned long rounds = strtoul(arguments[2], NULL, 10);
        for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
            if (strcmp(arguments[1], workloads[i].name) != 0) continue;
            uint64_t sum = 0;
            for (unsigned long round = 0; round < rounds; round++) sum = sum * 31 + workloads[i].run(round);
            printf("%s %016llx\n", arguments[1], (unsigned long long)sum);
            return 0;
        }
    }
    fputs("usage: workloads regex|interpreter|json|sort ROUNDS\n", stderr);
    return 2;
}
