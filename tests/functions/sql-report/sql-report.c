// A report by SQL over one CSV: loads standard input into the table `data`, runs the statements given as an argument
// and writes the rows of the query among them. Owns the CSV reader, the types of columns and the output; the database
// is SQLite, in memory alone.
#include "../common/guest.h"
#include "sqlite3.h"

#include <math.h>
#include <stdbool.h>

const char *const guest_name = "sql-report";
const char *const guest_usage =
    "usage: sql-report [--json] [--delimiter CHAR] [--text] SQL < table.csv > report.csv\n"
    "  Loads a CSV with a header line into the table \"data\", runs SQL and writes the query's rows as CSV.\n"
    "  --json            an array of objects instead\n"
    "  --delimiter CHAR  between fields, or \"tab\" (the one of , ; tab | that the header has most of)\n"
    "  --text            keep every column as text (whole numbers and decimals are recognised)\n"
    "  Several statements, separated by semicolons, may prepare the query; one alone may have rows.\n";

enum {
    INPUT_BYTES_MAX = 512 * 1024 * 1024,
    COLUMNS_MAX = 1000,
    WHOLE_DIGITS_MAX = 18, // more might not fit in 64 bits: account numbers stay text
};

// --- CSV

typedef struct {
    const char *bytes;
    size_t len, at, line; // `line` counts from 1
    char delimiter;
} Reader;

typedef struct {
    size_t start, len; // in the record's buffer; a NUL follows
    bool present; // an empty field without quotes is not: it becomes NULL
} Field;

typedef struct {
    Field *fields;
    size_t count, capacity;
    char *buffer;
    size_t buffer_len, buffer_capacity;
    size_t line;
} Record;

static const char *text_of(const Record *record, size_t i) { return record->buffer + record->fields[i].start; }

static void put_byte(Record *record, char byte) {
    if (record->buffer_len == record->buffer_capacity) {
        record->buffer_capacity = record->buffer_capacity ? record->buffer_capacity * 2 : 4096;
        record->buffer = reallocate(record->buffer, record->buffer_capacity);
    }
    record->buffer[record->buffer_len++] = byte;
}

static void put_field(Record *record, size_t start, bool quoted) {
    if (record->count == COLUMNS_MAX)
        fail("line %zu has more than %d fields: is the delimiter right?", record->line, COLUMNS_MAX);
    if (record->count == record->capacity) {
        record->capacity = record->capacity ? record->capacity * 2 : 32;
        record->fields = reallocate(record->fields, record->capacity * sizeof(Field));
    }
    size_t len = record->buffer_len - start;
    put_byte(record, 0);
    record->fields[record->count++] = (Field){start, len, len || quoted};
}

static bool at_line_end(const Reader *reader) {
    return reader->at >= reader->len || reader->bytes[reader->at] == '\n' || reader->bytes[reader->at] == '\r';
}

static void read_quoted(Reader *reader, Record *record) {
    size_t opened = reader->line;
    for (reader->at++; reader->at < reader->len; reader->at++) {
        char c = reader->bytes[reader->at];
        if (c == '"') {
            if (reader->at + 1 >= reader->len || reader->bytes[reader->at + 1] != '"') {
                reader->at++;
                return;
            }
            reader->at++;
        }
        reader->line += c == '\n';
        put_byte(record, c);
    }
    fail("the quote opened in line %zu is not closed", opened);
}

// RFC 4180, with any of the three line ends; blank lines are skipped. False at the end.
static bool read_record(Reader *reader, Record *record) {
    while (reader->at < reader->len && at_line_end(reader)) reader->line += reader->bytes[reader->at++] == '\n';
    if (reader->at >= reader->len) return false;
    record->count = record->buffer_len = 0;
    record->line = reader->line;
    for (;;) {
        size_t start = record->buffer_len;
        bool quoted = reader->at < reader->len && reader->bytes[reader->at] == '"';
        if (quoted) read_quoted(reader, record);
        while (!at_line_end(reader) && reader->bytes[reader->at] != reader->delimiter) {
            if (quoted) fail("line %zu has text after a closing quote", reader->line);
            put_byte(record, reader->bytes[reader->at++]);
        }
        put_field(record, start, quoted);
        if (at_line_end(reader)) break;
        reader->at++;
    }
    return true;
}

static char guess_delimiter(const Reader *reader) {
    static const char candidates[] = ",;\t|";
    size_t counts[4] = {0}, best = 0;
    bool quoted = false;
    for (size_t at = reader->at; at < reader->len && (quoted || reader->bytes[at] != '\n'); at++) {
        const char *found = reader->bytes[at] ? strchr(candidates, reader->bytes[at]) : NULL;
        if (reader->bytes[at] == '"') quoted = !quoted;
        else if (found && !quoted) counts[found - candidates]++;
    }
    for (size_t i = 1; i < 4; i++)
        if (counts[i] > counts[best]) best = i;
    return candidates[best];
}

// --- the types of columns

typedef enum { WHOLE, DECIMAL, TEXT } Type; // each holds what the ones before it hold

static Type type_of(const char *text, size_t len) {
    size_t at = text[0] == '-' || text[0] == '+', digits = strspn(text + at, "0123456789");
    if (digits == 0 || (digits > 1 && text[at] == '0')) return TEXT; // 007 is a code, not a number
    at += digits;
    if (at == len) return digits <= WHOLE_DIGITS_MAX ? WHOLE : TEXT;
    if (text[at] == '.') {
        size_t fraction = strspn(text + at + 1, "0123456789");
        if (fraction == 0) return TEXT;
        at += 1 + fraction;
    }
    if (text[at] == 'e' || text[at] == 'E') {
        at++;
        at += text[at] == '-' || text[at] == '+';
        size_t exponent = strspn(text + at, "0123456789");
        if (exponent == 0 || exponent > 3) return TEXT;
        at += exponent;
    }
    return at == len ? DECIMAL : TEXT;
}

static void require_width(const Record *record, size_t columns) {
    if (record->count != columns)
        fail("line %zu has %zu fields, the header has %zu", record->line, record->count, columns);
}

// Reads all records once; a column without any value is text.
static Type *infer_types(Reader reader, Record *record, size_t columns) {
    Type *types = allocate_zeroed(columns, sizeof(Type));
    bool *seen = allocate_zeroed(columns, sizeof(bool));
    while (read_record(&reader, record)) {
        require_width(record, columns);
        for (size_t i = 0; i < columns; i++) {
            if (!record->fields[i].present) continue;
            Type type = type_of(text_of(record, i), record->fields[i].len);
            if (type > types[i]) types[i] = type;
            seen[i] = true;
        }
    }
    for (size_t i = 0; i < columns; i++)
        if (!seen[i]) types[i] = TEXT;
    free(seen);
    return types;
}

// --- the table

static void check(sqlite3 *db, int code) {
    if (code == SQLITE_NOMEM) fail("out of memory in the database");
    if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW) fail("the database says: %s", sqlite3_errmsg(db));
}

static bool is_taken(char **names, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (sqlite3_stricmp(names[i], name) == 0) return true;
    return false;
}

// The header's names, made different from each other: a second "price" becomes "price_2".
static char **column_names(const Record *header) {
    char **names = allocate(header->count * sizeof(char *));
    for (size_t i = 0; i < header->count; i++) {
        char *name = header->fields[i].len ? sqlite3_mprintf("%s", text_of(header, i))
                                           : sqlite3_mprintf("column_%d", (int)i + 1);
        const char *base = name;
        for (int suffix = 2; name && is_taken(names, i, name); suffix++) name = sqlite3_mprintf("%s_%d", base, suffix);
        if (!name) fail("out of memory");
        names[i] = name;
    }
    return names;
}

static sqlite3_stmt *create_table(sqlite3 *db, char **names, const Type *types, size_t columns) {
    static const char *const declared[] = {"INTEGER", "REAL", "TEXT"};
    sqlite3_str *create = sqlite3_str_new(db), *insert = sqlite3_str_new(db);
    for (size_t i = 0; i < columns; i++) {
        sqlite3_str_appendf(create, "%s\"%w\" %s", i ? ", " : "CREATE TABLE data (", names[i], declared[types[i]]);
        sqlite3_str_appendall(insert, i ? ", ?" : "INSERT INTO data VALUES (?");
    }
    sqlite3_str_appendall(create, ")");
    sqlite3_str_appendall(insert, ")");
    char *create_sql = sqlite3_str_finish(create), *insert_sql = sqlite3_str_finish(insert);
    if (!create_sql || !insert_sql) fail("out of memory");
    sqlite3_stmt *statement = NULL;
    check(db, sqlite3_exec(db, create_sql, NULL, NULL, NULL));
    check(db, sqlite3_prepare_v2(db, insert_sql, -1, &statement, NULL));
    sqlite3_free(create_sql);
    sqlite3_free(insert_sql);
    return statement;
}

static void insert(sqlite3 *db, sqlite3_stmt *statement, const Record *record, const Type *types) {
    for (size_t i = 0; i < record->count; i++) {
        int at = (int)i + 1;
        const char *text = text_of(record, i);
        if (!record->fields[i].present) check(db, sqlite3_bind_null(statement, at));
        else if (types[i] == WHOLE) check(db, sqlite3_bind_int64(statement, at, strtoll(text, NULL, 10)));
        else if (types[i] == DECIMAL) check(db, sqlite3_bind_double(statement, at, strtod(text, NULL)));
        else check(db, sqlite3_bind_text(statement, at, text, (int)record->fields[i].len, SQLITE_STATIC));
    }
    check(db, sqlite3_step(statement));
    check(db, sqlite3_reset(statement));
}

static void load(sqlite3 *db, Input input, char delimiter, bool all_text) {
    Reader reader = {(const char *)input.bytes, input.len, 0, 1, delimiter};
    const void *zero = memchr(input.bytes, 0, input.len);
    if (zero) fail("the input has a zero byte at offset %td: it is not a CSV", (const unsigned char *)zero - input.bytes);
    if (input.len >= 3 && !memcmp(input.bytes, "\xef\xbb\xbf", 3)) reader.at = 3;
    if (!delimiter) reader.delimiter = guess_delimiter(&reader);
    Record record = {0};
    if (!read_record(&reader, &record)) fail("the input is empty: a CSV has a header line");
    size_t columns = record.count, rows = 0;
    char **names = column_names(&record);
    Type *types = infer_types(reader, &record, columns);
    for (size_t i = 0; all_text && i < columns; i++) types[i] = TEXT;
    check(db, sqlite3_exec(db, "BEGIN", NULL, NULL, NULL));
    sqlite3_stmt *statement = create_table(db, names, types, columns);
    for (; read_record(&reader, &record); rows++) insert(db, statement, &record, types);
    check(db, sqlite3_finalize(statement));
    check(db, sqlite3_exec(db, "COMMIT", NULL, NULL, NULL));
    free(input.bytes);
    fprintf(stderr, "%s: loaded rows: %zu, columns: %zu\n", guest_name, rows, columns);
}

// --- the report

static void write_csv_field(const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"') putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void write_csv_row(sqlite3_stmt *statement, int columns) {
    for (int i = 0; i < columns; i++) {
        const char *text = (const char *)sqlite3_column_text(statement, i);
        if (i) putchar(',');
        // An empty text is told from NULL by its quotes, as in the input.
        if (text && !*text) fputs("\"\"", stdout);
        else if (text) write_csv_field(text);
    }
    fputs("\r\n", stdout);
}

static bool is_utf8(const unsigned char *b, int len) {
    for (int i = 0; i < len;) {
        int extra = b[i] < 0x80 ? 0 : b[i] < 0xc2 ? -1 : b[i] < 0xe0 ? 1 : b[i] < 0xf0 ? 2 : b[i] < 0xf5 ? 3 : -1;
        if (extra < 0 || len - i <= extra) return false;
        for (int k = 1; k <= extra; k++)
            if ((b[i + k] & 0xc0) != 0x80) return false;
        i += extra + 1;
    }
    return true;
}

static void write_json_row(sqlite3_stmt *statement, int columns, bool first) {
    fputs(first ? "\n  {" : ",\n  {", stdout);
    for (int i = 0; i < columns; i++) {
        if (i) fputs(", ", stdout);
        const char *name = sqlite3_column_name(statement, i);
        write_json_string(stdout, name, strlen(name));
        fputs(": ", stdout);
        int type = sqlite3_column_type(statement, i);
        double number = sqlite3_column_double(statement, i);
        if (type == SQLITE_NULL || (type == SQLITE_FLOAT && !isfinite(number))) fputs("null", stdout);
        else {
            const char *text = (const char *)sqlite3_column_text(statement, i);
            int len = sqlite3_column_bytes(statement, i);
            if (!text) fail("out of memory in the database");
            if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) fputs(text, stdout);
            else if (!is_utf8((const unsigned char *)text, len))
                fail("the column \"%s\" has text that is not UTF-8, as JSON must be", name);
            else write_json_string(stdout, text, (size_t)len);
        }
    }
    putchar('}');
}

static size_t write_rows(sqlite3 *db, sqlite3_stmt *statement, bool json) {
    int columns = sqlite3_column_count(statement), code = sqlite3_step(statement);
    check(db, code); // before the first byte, for an error that shows only then
    if (json) putchar('[');
    for (int i = 0; !json && i < columns; i++) {
        if (i) putchar(',');
        write_csv_field(sqlite3_column_name(statement, i));
    }
    if (!json) fputs("\r\n", stdout);
    size_t rows = 0;
    for (; code == SQLITE_ROW; code = sqlite3_step(statement), rows++) {
        if (json) write_json_row(statement, columns, rows == 0);
        else write_csv_row(statement, columns);
    }
    check(db, code);
    if (json) fputs(rows ? "\n]\n" : "]\n", stdout);
    return rows;
}

static void report(sqlite3 *db, const char *sql, bool json) {
    bool written = false;
    while (*sql) {
        sqlite3_stmt *statement = NULL;
        const char *rest = NULL;
        if (sqlite3_prepare_v2(db, sql, -1, &statement, &rest) != SQLITE_OK) fail("the SQL is wrong: %s", sqlite3_errmsg(db));
        sql = rest;
        if (!statement) continue; // a comment or a lone semicolon
        if (sqlite3_column_count(statement) == 0) check(db, sqlite3_step(statement));
        else if (written) fail("the SQL has a second query; one alone may have rows");
        else {
            size_t rows = write_rows(db, statement, json);
            fprintf(stderr, "%s: reported rows: %zu\n", guest_name, rows);
            written = true;
        }
        check(db, sqlite3_finalize(statement));
    }
    if (!written) fail("the SQL has no query: nothing to report");
}

int main(int argc, char **argv) {
    const char *sql = NULL;
    char delimiter = 0;
    bool json = false, all_text = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) show_usage();
        else if (!strcmp(argv[i], "--json")) json = true;
        else if (!strcmp(argv[i], "--text")) all_text = true;
        else if (!strcmp(argv[i], "--delimiter")) {
            const char *value = option_value(argc, argv, &i);
            delimiter = !strcmp(value, "tab") ? '\t' : value[0];
            bool single = delimiter == '\t' || (value[0] && !value[1]);
            if (!single || strchr("\"\r\n", delimiter)) usage_error("--delimiter is one character or \"tab\"");
        } else if (!strncmp(argv[i], "--", 2) && !strpbrk(argv[i], " \n")) usage_error("\"%s\" is not an option", argv[i]);
        else if (sql) usage_error("the SQL is one argument; put it in quotes");
        else sql = argv[i];
    }
    if (!sql) usage_error("there is no SQL");
    Input input = read_input(INPUT_BYTES_MAX);
    sqlite3 *db = NULL;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK) fail("the database cannot be opened");
    load(db, input, delimiter, all_text);
    report(db, sql, json);
    finish();
}
