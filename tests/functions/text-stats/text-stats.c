// Statistics over one document: counts, readability, vocabulary and the most frequent words, as one JSON object.
// Owns the word table and the formulas; the readability scores are those of English.
#include "../common/guest.h"

#include <math.h>
#include <stdbool.h>
#include <wctype.h>

const char *const guest_name = "text-stats";
const char *const guest_usage =
    "usage: text-stats [--top N] [--min-length N] [--all-words] < document.txt\n"
    "  Reads one UTF-8 text and writes its statistics as JSON.\n"
    "  --top N         how many frequent words to list, 0 to 1000 (20)\n"
    "  --min-length N  leave shorter words out of that list, 1 to 40 (1)\n"
    "  --all-words     count \"the\", \"of\" and the like in that list too\n";

enum {
    INPUT_BYTES_MAX = 256 * 1024 * 1024,
    WORD_BYTES_MAX = 120, // longer runs of letters are cut here; no word is
    BAD_BYTES_PERCENT_MAX = 5, // a text in another encoding has a few per cent; what is above is not text
    WORDS_PER_MINUTE = 238, // mean silent reading speed of adults, Brysbaert 2019
};

typedef struct {
    char *text;
    uint32_t len;
    uint32_t count;
} Word;

// Open addressing; `capacity` is a power of two and at most two thirds are taken.
typedef struct {
    Word *slots;
    size_t capacity, used;
} WordTable;

typedef struct {
    uint64_t characters, invalid_bytes, lines, paragraphs;
    uint64_t words, letters, sentences, syllables, complex_words, long_words;
    uint64_t longest_sentence_words;
    char longest_word[WORD_BYTES_MAX + 1];
    uint32_t longest_word_letters;
} Counts;

static const char *const common_words =
    " a about after again all also am an and any are as at be because been before being but by can could did do does "
    "down each for from had has have he her here hers him his how i if in into is it its just me more most my no nor "
    "not now of off on once only or other our out over own s same shall she should so some such t than that the their "
    "them then there these they this those through to too under until up upon very was we were what when where which "
    "while who whom why will with would you your ";

static bool is_common(const char *word, size_t len) {
    char padded[WORD_BYTES_MAX + 3];
    if (len > 10) return false;
    padded[0] = ' ';
    memcpy(padded + 1, word, len);
    padded[len + 1] = ' ';
    padded[len + 2] = 0;
    return strstr(common_words, padded) != NULL;
}

static uint64_t hash_of(const char *text, size_t len) {
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash ^ (hash >> 29);
}

static Word *slot_for(WordTable *table, const char *text, size_t len) {
    size_t at = hash_of(text, len) & (table->capacity - 1);
    while (table->slots[at].text && (table->slots[at].len != len || memcmp(table->slots[at].text, text, len) != 0))
        at = (at + 1) & (table->capacity - 1);
    return &table->slots[at];
}

static void grow(WordTable *table) {
    WordTable larger = {NULL, table->capacity ? table->capacity * 2 : 4096, table->used};
    larger.slots = allocate_zeroed(larger.capacity, sizeof(Word));
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].text) *slot_for(&larger, table->slots[i].text, table->slots[i].len) = table->slots[i];
    free(table->slots);
    *table = larger;
}

static void count_word(WordTable *table, const char *text, size_t len) {
    if ((table->used + 1) * 3 > table->capacity * 2) grow(table);
    Word *word = slot_for(table, text, len);
    if (!word->text) {
        word->text = allocate(len);
        memcpy(word->text, text, len);
        word->len = (uint32_t)len;
        table->used++;
    }
    word->count++;
}

// One code point at `*at`, which moves past it; -1 for a byte that is not UTF-8.
static int32_t next_code_point(const Input *input, size_t *at) {
    const unsigned char *b = input->bytes + *at;
    size_t left = input->len - *at;
    (*at)++;
    if (b[0] < 0x80) return b[0];
    int extra = b[0] >= 0xf0 ? 3 : b[0] >= 0xe0 ? 2 : 1;
    if (b[0] < 0xc2 || b[0] > 0xf4 || left <= (size_t)extra) return -1;
    int32_t code = b[0] & (0x3f >> extra);
    for (int i = 1; i <= extra; i++) {
        if ((b[i] & 0xc0) != 0x80) return -1;
        code = (code << 6) | (b[i] & 0x3f);
    }
    if ((extra == 2 && code < 0x800) || (extra == 3 && code < 0x10000) || code > 0x10ffff) return -1;
    if (code >= 0xd800 && code <= 0xdfff) return -1;
    *at += (size_t)extra;
    return code;
}

static size_t put_utf8(char *out, int32_t c) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 0x3f)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 0x3f)),
               out[2] = (char)(0x80 | (c & 0x3f)), 3;
    return out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 0x3f)),
           out[2] = (char)(0x80 | (c >> 6 & 0x3f)), out[3] = (char)(0x80 | (c & 0x3f)), 4;
}

static bool is_vowel(char c) { return c && strchr("aeiouy", c) != NULL; }

// Groups of vowels, less a silent final e; at least one. Letters outside ASCII count as vowels when accented Latin.
static unsigned syllables_of(const char *word, size_t len) {
    unsigned groups = 0;
    bool in_group = false;
    for (size_t i = 0; i < len; i++) {
        bool vowel = is_vowel(word[i]) || (unsigned char)word[i] == 0xc3;
        if (vowel && !in_group) groups++;
        if ((unsigned char)word[i] < 0x80 || (unsigned char)word[i] >= 0xc0) in_group = vowel;
    }
    bool silent_e = len > 2 && word[len - 1] == 'e' && !is_vowel(word[len - 2]) &&
                    !(word[len - 2] == 'l' && !is_vowel(word[len - 3]));
    bool silent_ed = len > 3 && word[len - 1] == 'd' && word[len - 2] == 'e' && !strchr("td", word[len - 3]) &&
                     !is_vowel(word[len - 3]);
    if ((silent_e || silent_ed) && groups > 1) groups--;
    return groups ? groups : 1;
}

static bool is_letter(int32_t c) {
    if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    return iswalpha((wint_t)c);
}

static bool is_apostrophe(int32_t c) { return c == '\'' || c == 0x2019; }

static void end_word(Counts *counts, WordTable *table, const char *word, size_t len, uint32_t letters) {
    counts->words++;
    counts->letters += letters;
    unsigned syllables = syllables_of(word, len);
    counts->syllables += syllables;
    counts->complex_words += syllables >= 3;
    counts->long_words += letters > 6;
    if (letters > counts->longest_word_letters) {
        counts->longest_word_letters = letters;
        memcpy(counts->longest_word, word, len);
        counts->longest_word[len] = 0;
    }
    count_word(table, word, len);
}

static Counts read_document(const Input *input, WordTable *table) {
    Counts counts = {0};
    char word[WORD_BYTES_MAX + 8];
    size_t word_len = 0;
    uint32_t word_letters = 0;
    uint64_t sentence_start = 0;
    bool line_blank = true, in_paragraph = false, after_stop = false;
    int32_t previous = '\n';
    for (size_t at = 0; at < input->len;) {
        int32_t c = next_code_point(input, &at);
        if (c == 0) fail("the input has a zero byte at offset %zu: it is not a text document", at - 1);
        if (c == 0xfeff && at == 3) continue; // a byte order mark
        if (c < 0) counts.invalid_bytes++;
        else counts.characters++;

        if (c > 0 && is_letter(c)) {
            if (word_len + 4 <= WORD_BYTES_MAX) word_len += put_utf8(word + word_len, (int32_t)towlower((wint_t)c));
            word_letters++;
        } else if (word_len && is_apostrophe(c) && at < input->len) {
            // Inside a word only: "don't" is one word, the quote after "dogs'" is none of it.
            size_t ahead = at;
            int32_t next = next_code_point(input, &ahead);
            if (next > 0 && is_letter(next) && word_len + 4 <= WORD_BYTES_MAX) word[word_len++] = '\'';
            else goto word_ends;
        } else {
        word_ends:
            if (word_len) {
                end_word(&counts, table, word, word_len, word_letters);
                word_len = word_letters = 0;
            }
        }

        // A sentence ends at a stop that white space follows, or at the end of a paragraph. The closing quotes and
        // brackets between the stop and the space belong to it.
        bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        bool paragraph_ends = c == '\n' && line_blank && in_paragraph;
        if (((space && after_stop) || paragraph_ends) && counts.words > sentence_start) {
            uint64_t length = counts.words - sentence_start;
            counts.sentences++;
            if (length > counts.longest_sentence_words) counts.longest_sentence_words = length;
            sentence_start = counts.words;
        }
        if (c == '.' || c == '!' || c == '?' || c == 0x2026) after_stop = true;
        else if (!(c == '"' || c == '\'' || c == ')' || c == ']' || c == '_' || c == '*' || c == 0x201d || c == 0x2019))
            after_stop = false;

        if (c == '\n') {
            counts.lines++;
            if (line_blank) in_paragraph = false;
            line_blank = true;
        } else if (!space) {
            if (!in_paragraph) counts.paragraphs++;
            in_paragraph = true;
            line_blank = false;
        }
        previous = c;
    }
    if (word_len) end_word(&counts, table, word, word_len, word_letters);
    if (counts.words > sentence_start) {
        uint64_t length = counts.words - sentence_start;
        counts.sentences++;
        if (length > counts.longest_sentence_words) counts.longest_sentence_words = length;
    }
    if (input->len && previous != '\n') counts.lines++;
    return counts;
}

static int by_count_then_text(const void *a, const void *b) {
    const Word *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (int)x->len - (int)y->len;
}

// A number with the given digits, or null where the document is too short for it.
static void field(const char *name, double value, int digits, bool known) {
    if (known && isfinite(value)) printf(",\n  \"%s\": %.*f", name, digits, value + 0.0);
    else printf(",\n  \"%s\": null", name);
}

static void write_report(const Input *input, const Counts *c, WordTable *table, uint64_t top, uint64_t min_length,
                         bool all_words) {
    Word *sorted = allocate((table->used + 1) * sizeof(Word));
    size_t unique = 0, once = 0, twice = 0;
    double squares = 0;
    for (size_t i = 0; i < table->capacity; i++) {
        if (!table->slots[i].text) continue;
        sorted[unique++] = table->slots[i];
        once += table->slots[i].count == 1;
        twice += table->slots[i].count == 2;
        squares += (double)table->slots[i].count * table->slots[i].count;
    }
    qsort(sorted, unique, sizeof(Word), by_count_then_text);

    bool some = c->words > 0;
    double words = (double)c->words, sentences = (double)c->sentences;
    double per_sentence = words / sentences, per_word = (double)c->syllables / words;
    double letters_per_word = (double)c->letters / words;

    printf("{\n  \"bytes\": %zu,\n  \"characters\": %llu,\n  \"invalid_bytes\": %llu,\n  \"lines\": %llu,\n"
           "  \"paragraphs\": %llu,\n  \"sentences\": %llu,\n  \"words\": %llu,\n  \"unique_words\": %zu,\n"
           "  \"words_used_once\": %zu,\n  \"words_used_twice\": %zu,\n  \"syllables\": %llu,\n"
           "  \"longest_sentence_words\": %llu,\n  \"longest_word\": ",
           input->len, (unsigned long long)c->characters, (unsigned long long)c->invalid_bytes,
           (unsigned long long)c->lines, (unsigned long long)c->paragraphs, (unsigned long long)c->sentences,
           (unsigned long long)c->words, unique, once, twice, (unsigned long long)c->syllables,
           (unsigned long long)c->longest_sentence_words);
    write_json_string(stdout, c->longest_word, strlen(c->longest_word));
    field("letters_per_word", letters_per_word, 3, some);
    field("words_per_sentence", per_sentence, 3, some);
    field("syllables_per_word", per_word, 3, some);
    field("type_token_ratio", (double)unique / words, 4, some);
    field("guiraud_richness", (double)unique / sqrt(words), 3, some);
    field("yule_k", 1e4 * (squares - words) / (words * words), 3, some);
    field("flesch_reading_ease", 206.835 - 1.015 * per_sentence - 84.6 * per_word, 2, some);
    field("flesch_kincaid_grade", 0.39 * per_sentence + 11.8 * per_word - 15.59, 2, some);
    field("gunning_fog", 0.4 * (per_sentence + 100.0 * (double)c->complex_words / words), 2, some);
    field("coleman_liau", 5.88 * letters_per_word - 29.6 * sentences / words - 15.8, 2, some);
    field("automated_readability", 4.71 * letters_per_word + 0.5 * per_sentence - 21.43, 2, some);
    field("lix", per_sentence + 100.0 * (double)c->long_words / words, 2, some);
    field("reading_minutes", words / WORDS_PER_MINUTE, 1, some);

    fputs(",\n  \"top_words\": [", stdout);
    uint64_t listed = 0;
    for (size_t i = 0; i < unique && listed < top; i++) {
        if (sorted[i].len < min_length || (!all_words && is_common(sorted[i].text, sorted[i].len))) continue;
        printf("%s\n    {\"word\": ", listed ? "," : "");
        write_json_string(stdout, sorted[i].text, sorted[i].len);
        printf(", \"count\": %u}", sorted[i].count);
        listed++;
    }
    fputs(listed ? "\n  ]\n}\n" : "]\n}\n", stdout);
}

int main(int argc, char **argv) {
    uint64_t top = 20, min_length = 1;
    bool all_words = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--top")) top = parse_count("--top", option_value(argc, argv, &i), 0, 1000);
        else if (!strcmp(argv[i], "--min-length"))
            min_length = parse_count("--min-length", option_value(argc, argv, &i), 1, 40);
        else if (!strcmp(argv[i], "--all-words")) all_words = true;
        else if (!strcmp(argv[i], "--help")) show_usage();
        else usage_error("\"%s\" is not an option", argv[i]);
    }
    Input input = read_input(INPUT_BYTES_MAX);
    WordTable table = {0};
    grow(&table);
    Counts counts = read_document(&input, &table);
    if (counts.invalid_bytes * 100 > input.len * BAD_BYTES_PERCENT_MAX)
        fail("%llu of %zu bytes are not UTF-8: this is another encoding, or no text", (unsigned long long)counts.invalid_bytes,
             input.len);
    if (counts.invalid_bytes)
        fprintf(stderr, "%s: %llu bytes that are not UTF-8 were skipped\n", guest_name,
                (unsigned long long)counts.invalid_bytes);
    write_report(&input, &counts, &table, top, min_length, all_words);
    finish();
}
