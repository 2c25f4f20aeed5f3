// Five loops that batch functions are made of, to compare the speed of the same module in two places. Each round's
// result goes into a checksum, which is the output: nothing can be left out.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

enum {
    COLLATZ_STARTS = 20000,
    MATRIX_SIDE = 160,
    SIEVE_BITS = 1 << 20,
    HASH_BYTES = 1 << 18,
    TEXT_BYTES = 1 << 20,
    ZSTD_LEVEL = 6,
};

static uint32_t random_state = 1;

static uint32_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

// The longest chain of 3n+1 among some numbers: integer arithmetic with branches nobody can predict.
static uint64_t integer(uint64_t round) {
    uint64_t longest = 0;
    for (uint64_t start = 1; start <= COLLATZ_STARTS; start++) {
        uint64_t steps = 0;
        for (uint64_t n = start + round; n != 1; steps++) n = n % 2 ? 3 * n + 1 : n / 2;
        if (steps > longest) longest = steps;
    }
    return longest;
}

static double left[MATRIX_SIDE][MATRIX_SIDE], right[MATRIX_SIDE][MATRIX_SIDE], product[MATRIX_SIDE][MATRIX_SIDE];

static uint64_t matrix(uint64_t round) {
    for (int i = 0; i < MATRIX_SIDE; i++) {
        for (int j = 0; j < MATRIX_SIDE; j++) {
            left[i][j] = (double)((uint64_t)(i + j) + round);
            right[i][j] = (double)(i - j);
        }
    }
    for (int i = 0; i < MATRIX_SIDE; i++) {
        for (int j = 0; j < MATRIX_SIDE; j++) {
            double sum = 0;
            for (int k = 0; k < MATRIX_SIDE; k++) sum += left[i][k] * right[k][j];
            product[i][j] = sum;
        }
    }
    uint64_t bits;
    memcpy(&bits, &product[MATRIX_SIDE - 1][MATRIX_SIDE / 3], sizeof bits);
    return bits;
}

static uint8_t composite[SIEVE_BITS];

static uint64_t sieve(uint64_t round) {
    uint64_t primes = round;
    memset(composite, 0, sizeof composite);
    for (uint32_t n = 2; n < SIEVE_BITS; n++) {
        if (composite[n]) continue;
        primes++;
        for (uint64_t multiple = (uint64_t)n * n; multiple < SIEVE_BITS; multiple += n) composite[multiple] = 1;
    }
    return primes;
}

static const uint32_t sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t word, int by) {
    return word >> by | word << (32 - by);
}

static void sha_block(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]), majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t a = v[7] + (turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25)) + choice + sha_constants[i] + w[i];
        uint32_t b = (turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22)) + majority;
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
}

static uint8_t message[HASH_BYTES];

// SHA-256 without the padding: all blocks are whole.
static uint64_t hash(uint64_t round) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    message[0] = (uint8_t)round;
    for (size_t at = 0; at < HASH_BYTES; at += 64) sha_block(state, message + at);
    return (uint64_t)state[0] << 32 | state[1];
}

static char text[TEXT_BYTES];

// Words of a small vocabulary: a compressor finds as much to do as in a log file.
static void write_text(void) {
    for (size_t at = 0; at < TEXT_BYTES;) {
        uint32_t word = random_word() % 4096;
        word = word * word >> 12;
        for (uint32_t letters = 2 + word % 9; letters > 0 && at < TEXT_BYTES; letters--) {
            text[at++] = (char)('a' + (word * 2654435761u >> (letters % 24)) % 26);
        }
        if (at < TEXT_BYTES) text[at++] = ' ';
    }
}

static uint64_t zstd(uint64_t round) {
    if (text[0] == 0) write_text();
    text[0] = (char)('a' + round % 26);
    size_t capacity = ZSTD_compressBound(TEXT_BYTES);
    char *packed = malloc(capacity);
    if (packed == NULL) exit(1);
    size_t size = ZSTD_compress(packed, capacity, text, TEXT_BYTES, ZSTD_LEVEL);
    free(packed);
    if (ZSTD_isError(size)) exit(1);
    return size;
}

static const struct {
    const char *name;
    uint64_t (*round)(uint64_t);
} kernels[] = {{"integer", integer}, {"matrix", matrix}, {"sieve", sieve}, {"hash", hash}, {"zstd", zstd}};

int main(int argc, char **argv) {
    const char *name = argc == 3 ? argv[1] : "";
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        if (strcmp(name, kernels[k].name) != 0) continue;
        uint64_t rounds = strtoull(argv[2], NULL, 10), sum = 0;
        for (uint64_t round = 1; round <= rounds; round++) sum = sum * 31 + kernels[k].round(round);
        printf("%016llx\n", (unsigned long long)sum);
        return 0;
    }
    fputs("usage: kernels integer|matrix|sieve|hash|zstd ROUNDS\n", stderr);
    return 2;
}
