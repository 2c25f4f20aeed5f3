// Monte Carlo of a portfolio's loss or of an option's price: one task simulates one stream of random numbers, chosen by
// its number, so that an array job's results are independent and can be averaged. Owns the random numbers, the two
// models and the statistics; the same input and arguments give the same bytes on every machine.
#include "../common/guest.h"

#include <math.h>
#include <stdbool.h>

const char *const guest_name = "monte-carlo";
const char *const guest_usage =
    "usage: monte-carlo [--model portfolio|option] [--paths N] [--seed N] [KEY=VALUE...] < scenario\n"
    "  Simulates and writes mean, standard error, value at risk and expected shortfall as JSON.\n"
    "  --model    portfolio: loss over some days; option: price of a European or Asian option (portfolio)\n"
    "  --paths N  how many to simulate, 100 to 100000000000 (1000000)\n"
    "  --seed N   the family of streams; the task's number chooses within it (1)\n"
    "  The scenario is the task's number alone, lines of key=value, or one flat JSON object; arguments override it.\n"
    "  Keys of both:      index\n"
    "  Keys of portfolio: value, assets, drift, volatility, correlation, tail, jumps, jump_mean, jump_deviation, days\n"
    "  Keys of option:    spot, strike, rate, volatility, years, steps, kind (call, put, asian-call, asian-put)\n";

enum {
    INPUT_BYTES_MAX = 64 * 1024,
    ASSETS_MAX = 256,
    STEPS_MAX = 10000,
    TRADING_DAYS = 252, // a year
    BINS = 1 << 18, // of 1/131072 of the portfolio's value each
    PROGRESS_LINES = 10,
};

typedef enum { PORTFOLIO, OPTION } Model;

typedef struct {
    Model model;
    uint64_t paths, seed;
    // Every key is a number here; `kind` is parsed to its place in `option_kinds`.
    double index;
    double value, assets, drift, volatility, correlation, tail, jumps, jump_mean, jump_deviation, days;
    double spot, strike, rate, years, steps, kind;
} Scenario;

static const char *const option_kinds[] = {"call", "put", "asian-call", "asian-put"};
enum { CALL, PUT, ASIAN_CALL, ASIAN_PUT };

typedef struct {
    const char *name;
    size_t offset;
    double min, max;
    bool whole;
} Key;

#define KEY(name, min, max, whole) {#name, offsetof(Scenario, name), min, max, whole}
static const Key keys[] = {
    KEY(index, 0, 999999999999999, true),
    KEY(value, 0.01, 1e15, false),
    KEY(assets, 1, ASSETS_MAX, true),
    KEY(drift, -5, 5, false),
    KEY(volatility, 0, 5, false),
    KEY(correlation, 0, 1, false),
    KEY(tail, 0, 100, true),
    KEY(jumps, 0, 1000, false),
    KEY(jump_mean, -1, 1, false),
    KEY(jump_deviation, 0, 1, false),
    KEY(days, 1, STEPS_MAX, true),
    KEY(spot, 1e-6, 1e12, false),
    KEY(strike, 1e-6, 1e12, false),
    KEY(rate, -1, 5, false),
    KEY(years, 0.001, 100, false),
    KEY(steps, 1, STEPS_MAX, true),
    KEY(kind, 0, 3, true),
};

static const Scenario defaults = {
    .model = PORTFOLIO, .paths = 1000000, .seed = 1,
    .value = 1e6, .assets = 8, .drift = 0.05, .volatility = 0.25, .correlation = 0.35, .tail = 0, .jumps = 0,
    .jump_mean = -0.08, .jump_deviation = 0.06, .days = 10,
    .spot = 100, .strike = 105, .rate = 0.03, .years = 1, .steps = 1, .kind = CALL,
};

// --- the scenario

typedef void Refusal(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void set_key(Scenario *scenario, const char *name, const char *text, Refusal *refuse) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].name, name)) continue;
        double value = NAN;
        if (keys[i].offset == offsetof(Scenario, kind)) {
            for (int kind = 0; kind < 4; kind++)
                if (!strcmp(option_kinds[kind], text)) value = kind;
            if (isnan(value)) refuse("kind is call, put, asian-call or asian-put, not \"%s\"", text);
        } else {
            char *end;
            value = strtod(text, &end);
            if (end == text || *end) value = NAN;
        }
        if (!(value >= keys[i].min && value <= keys[i].max) || (keys[i].whole && value != floor(value)))
            refuse("%s wants a %snumber from %.15g to %.15g, not \"%s\"", name, keys[i].whole ? "whole " : "", keys[i].min,
                   keys[i].max, text);
        *(double *)((char *)scenario + keys[i].offset) = value;
        return;
    }
    refuse("\"%s\" is not a key of a scenario", name);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static char *trim(char *text) {
    while (is_space(*text)) text++;
    size_t len = strlen(text);
    while (len && is_space(text[len - 1])) text[--len] = 0;
    return text;
}

static void parse_lines(Scenario *scenario, char *text) {
    for (char *line = text; line && *line;) {
        char *end = strpbrk(line, "\n;");
        if (end) *end = 0;
        char *content = trim(line);
        if (*content && *content != '#') {
            char *equals = strchr(content, '=');
            if (!equals) fail("\"%.60s\" is not key=value", content);
            *equals = 0;
            set_key(scenario, trim(content), trim(equals + 1), fail);
        }
        line = end ? end + 1 : NULL;
    }
}

// A string without escapes, or a bare number; `*at` moves past it. Keys and kinds need no more of JSON.
static char *json_scalar(char **at, char *after) {
    char *start = *at;
    size_t len = *start == '"' ? strcspn(++start, "\"\\\n") : strcspn(start, ",}: \t\r\n\"{[");
    char *end = start + len;
    if (start != *at && *end != '"') fail("the JSON has a string that does not end");
    if (start == *at && len == 0) fail("the JSON is not one flat object of numbers and strings");
    char *next = end + (start != *at);
    while (is_space(*next)) next++;
    *after = *next;
    *end = 0;
    *at = *after ? next + 1 : next;
    return start;
}

static void parse_json(Scenario *scenario, char *text) {
    char *at = text + 1, after = ',';
    while (is_space(*at)) at++;
    if (*at == '}') at++, after = '}';
    while (after == ',') {
        while (is_space(*at)) at++;
        if (*at != '"') fail("the JSON is not one flat object of numbers and strings");
        char *name = json_scalar(&at, &after);
        if (after != ':') fail("the JSON has no value for \"%s\"", name);
        while (is_space(*at)) at++;
        char *value = json_scalar(&at, &after);
        set_key(scenario, name, value, fail);
    }
    if (after != '}' || *trim(at)) fail("the JSON is not one flat object of numbers and strings");
}

static void parse_scenario(Scenario *scenario, char *text) {
    text = trim(text);
    if (!*text) fail("the input is empty: it is the task's number, key=value lines or a JSON object");
    if (*text == '{') parse_json(scenario, text);
    else if (strspn(text, "0123456789") == strlen(text)) set_key(scenario, "index", text, fail);
    else parse_lines(scenario, text);
}

// --- random numbers: xoshiro256++, started from the seed and the index by splitmix64

typedef struct {
    uint64_t state[4];
    double spare;
    bool has_spare;
} Random;

static uint64_t mix(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static Random random_stream(uint64_t seed, uint64_t index) {
    Random random = {0};
    uint64_t state = mix(&seed) + index * 0xd1342543de82ef95u;
    for (int i = 0; i < 4; i++) random.state[i] = mix(&state);
    return random;
}

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t next_bits(Random *random) {
    uint64_t *s = random->state, result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t, s[3] = rotate(s[3], 45);
    return result;
}

static double uniform(Random *random) { return (double)(next_bits(random) >> 11) * 0x1p-53; }

// Standard normal, by Marsaglia's polar method: two at a time.
static double normal(Random *random) {
    if (random->has_spare) return random->has_spare = false, random->spare;
    double x, y, square;
    do {
        x = 2 * uniform(random) - 1;
        y = 2 * uniform(random) - 1;
        square = x * x + y * y;
    } while (square >= 1 || square == 0);
    double factor = sqrt(-2 * log(square) / square);
    random->spare = y * factor;
    random->has_spare = true;
    return x * factor;
}

// By multiplication of uniforms; `exp_minus_mean` is small only if the mean is, as it is here for one day.
static unsigned poisson(Random *random, double exp_minus_mean) {
    unsigned count = 0;
    for (double product = uniform(random); product > exp_minus_mean; product *= uniform(random)) count++;
    return count;
}

// --- statistics

typedef struct {
    uint64_t count;
    double mean, squares; // Welford's: the sum of squared distances from the mean
    double min, max;
} Moments;

static void add(Moments *moments, double x) {
    if (moments->count++ == 0) moments->min = moments->max = x;
    double before = x - moments->mean;
    moments->mean += before / (double)moments->count;
    moments->squares += before * (x - moments->mean);
    if (x < moments->min) moments->min = x;
    if (x > moments->max) moments->max = x;
}

static double deviation(const Moments *moments) {
    return moments->count < 2 ? 0 : sqrt(moments->squares / (double)(moments->count - 1));
}

static double standard_error(const Moments *moments) { return deviation(moments) / sqrt((double)moments->count); }

// Returns by their size, from -1 to +1: exact enough for the tail, and as small for 10^10 paths as for 100.
typedef struct {
    uint64_t *counts;
    double *sums;
    uint64_t total;
} Histogram;

static void record(Histogram *histogram, double gain) {
    double place = (gain + 1) * (BINS / 2);
    size_t bin = place < 0 ? 0 : place >= BINS ? BINS - 1 : (size_t)place;
    histogram->counts[bin]++;
    histogram->sums[bin] += gain;
    histogram->total++;
}

// The loss that a share `tail` of the paths exceeds, and the mean loss of those.
typedef struct {
    double value_at_risk, expected_shortfall;
} Risk;

static Risk risk_at(const Histogram *histogram, double tail) {
    double wanted = tail * (double)histogram->total, below = 0, sum = 0;
    size_t bin = 0;
    while (bin < BINS - 1 && below + (double)histogram->counts[bin] < wanted) {
        below += (double)histogram->counts[bin];
        sum += histogram->sums[bin++];
    }
    double in_bin = histogram->counts[bin] ? (wanted - below) / (double)histogram->counts[bin] : 0;
    double quantile = ((double)bin + in_bin) / (BINS / 2) - 1;
    sum += histogram->sums[bin] * in_bin;
    return (Risk){-quantile, -sum / wanted};
}

// --- the models

static void log_progress(const Scenario *scenario, uint64_t done) {
    uint64_t step = scenario->paths / PROGRESS_LINES;
    if (step && done % step == 0 && done / step < PROGRESS_LINES)
        fprintf(stderr, "%s: %llu of %llu paths\n", guest_name, (unsigned long long)done,
                (unsigned long long)scenario->paths);
}

// Equal holdings whose daily log returns share one market factor; fat tails by a common chi-square, and market crashes
// as compound Poisson jumps.
static double portfolio_gain(const Scenario *s, Random *random, double *levels) {
    int assets = (int)s->assets, days = (int)s->days, tail = (int)s->tail;
    double day = 1.0 / TRADING_DAYS, daily = s->volatility * sqrt(day);
    double trend = (s->drift - s->volatility * s->volatility / 2) * day;
    double market = sqrt(s->correlation), own = sqrt(1 - s->correlation), no_jump = exp(-s->jumps * day);
    for (int i = 0; i < assets; i++) levels[i] = 0;
    for (int t = 0; t < days; t++) {
        double scale = daily;
        if (tail >= 3) {
            double chi = 0;
            for (int i = 0; i < tail; i++) {
                double z = normal(random);
                chi += z * z;
            }
            scale *= sqrt((tail - 2) / chi); // unit variance, whatever the tail
        }
        double shared = market * normal(random), jump = 0;
        if (s->jumps > 0)
            for (unsigned left = poisson(random, no_jump); left; left--)
                jump += s->jump_mean + s->jump_deviation * normal(random);
        for (int i = 0; i < assets; i++) levels[i] += trend + jump + scale * (shared + own * normal(random));
    }
    double sum = 0;
    for (int i = 0; i < assets; i++) sum += exp(levels[i]);
    return sum / assets - 1;
}

static void simulate_portfolio(const Scenario *s) {
    Random random = random_stream(s->seed, (uint64_t)s->index);
    Histogram histogram = {allocate_zeroed(BINS, sizeof(uint64_t)), allocate_zeroed(BINS, sizeof(double)), 0};
    double *levels = allocate((size_t)s->assets * sizeof(double));
    Moments moments = {0};
    uint64_t losses = 0;
    for (uint64_t path = 1; path <= s->paths; path++) {
        double gain = portfolio_gain(s, &random, levels);
        add(&moments, gain);
        record(&histogram, gain);
        losses += gain < 0;
        log_progress(s, path);
    }
    Risk at_95 = risk_at(&histogram, 0.05), at_99 = risk_at(&histogram, 0.01);
    printf("{\n  \"model\": \"portfolio\",\n  \"index\": %.0f,\n  \"seed\": %llu,\n  \"paths\": %llu,\n"
           "  \"days\": %.0f,\n  \"assets\": %.0f,\n  \"value\": %.2f,\n  \"mean_gain\": %.4f,\n"
           "  \"standard_error\": %.4f,\n  \"deviation\": %.4f,\n  \"worst\": %.4f,\n  \"best\": %.4f,\n"
           "  \"loss_probability\": %.6f,\n  \"var_95\": %.4f,\n  \"var_99\": %.4f,\n"
           "  \"expected_shortfall_95\": %.4f,\n  \"expected_shortfall_99\": %.4f\n}\n",
           s->index, (unsigned long long)s->seed, (unsigned long long)s->paths, s->days, s->assets, s->value,
           s->value * moments.mean, s->value * standard_error(&moments), s->value * deviation(&moments),
           s->value * moments.min, s->value * moments.max, (double)losses / (double)s->paths,
           s->value * at_95.value_at_risk, s->value * at_99.value_at_risk, s->value * at_95.expected_shortfall,
           s->value * at_99.expected_shortfall);
}

// One path and its mirror image, whose errors partly cancel.
static double option_payoff(const Scenario *s, Random *random) {
    int steps = (int)s->steps, kind = (int)s->kind;
    bool asian = kind == ASIAN_CALL || kind == ASIAN_PUT;
    if (!asian) steps = 1; // a European payoff sees the end alone, whose law is known
    double step = s->years / steps, spread = s->volatility * sqrt(step);
    double trend = (s->rate - s->volatility * s->volatility / 2) * step;
    double up = 0, down = 0, up_sum = 0, down_sum = 0;
    for (int t = 0; t < steps; t++) {
        double z = spread * normal(random);
        up += trend + z;
        down += trend - z;
        up_sum += exp(up);
        down_sum += exp(down);
    }
    double sign = kind == CALL || kind == ASIAN_CALL ? 1 : -1;
    double a = sign * (s->spot * up_sum / steps - s->strike), b = sign * (s->spot * down_sum / steps - s->strike);
    return exp(-s->rate * s->years) * ((a > 0 ? a : 0) + (b > 0 ? b : 0)) / 2;
}

static double normal_below(double x) { return erfc(-x / sqrt(2)) / 2; }

static double black_scholes(const Scenario *s) {
    double spread = s->volatility * sqrt(s->years), discounted = s->strike * exp(-s->rate * s->years);
    double sign = s->kind == CALL ? 1 : -1;
    if (spread == 0) return fmax(sign * (s->spot - discounted), 0);
    double d1 = log(s->spot / discounted) / spread + spread / 2;
    return sign * (s->spot * normal_below(sign * d1) - discounted * normal_below(sign * (d1 - spread)));
}

static void simulate_option(const Scenario *s) {
    Random random = random_stream(s->seed, (uint64_t)s->index);
    Moments moments = {0};
    for (uint64_t path = 1; path <= s->paths; path++) {
        add(&moments, option_payoff(s, &random));
        log_progress(s, path);
    }
    double error = standard_error(&moments);
    printf("{\n  \"model\": \"option\",\n  \"kind\": \"%s\",\n  \"index\": %.0f,\n  \"seed\": %llu,\n  \"paths\": %llu,\n"
           "  \"price\": %.8f,\n  \"standard_error\": %.8f,\n  \"low_95\": %.8f,\n  \"high_95\": %.8f,\n"
           "  \"black_scholes\": ",
           option_kinds[(int)s->kind], s->index, (unsigned long long)s->seed, (unsigned long long)s->paths, moments.mean,
           error, moments.mean - 1.96 * error, moments.mean + 1.96 * error);
    if (s->kind == CALL || s->kind == PUT) printf("%.8f\n}\n", black_scholes(s));
    else fputs("null\n}\n", stdout);
}

int main(int argc, char **argv) {
    Scenario scenario = defaults;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) show_usage();
        else if (!strcmp(argv[i], "--paths"))
            scenario.paths = parse_count("--paths", option_value(argc, argv, &i), 100, 100000000000);
        else if (!strcmp(argv[i], "--seed"))
            scenario.seed = parse_count("--seed", option_value(argc, argv, &i), 0, UINT64_MAX);
        else if (!strcmp(argv[i], "--model")) {
            const char *model = option_value(argc, argv, &i);
            if (strcmp(model, "portfolio") && strcmp(model, "option"))
                usage_error("--model is portfolio or option, not \"%s\"", model);
            scenario.model = strcmp(model, "option") ? PORTFOLIO : OPTION;
        } else if (argv[i][0] == '-' || !strchr(argv[i], '=')) usage_error("\"%s\" is not an option", argv[i]);
    }
    Input input = read_input(INPUT_BYTES_MAX);
    if (memchr(input.bytes, 0, input.len)) fail("the input is not text");
    parse_scenario(&scenario, (char *)input.bytes);
    // After the input, since arguments override it.
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals) {
            i += argv[i][0] == '-'; // the value of an option
            continue;
        }
        *equals = 0;
        set_key(&scenario, argv[i], equals + 1, usage_error);
    }
    if (scenario.tail > 0 && scenario.tail < 3) fail("tail is 0 (normal) or at least 3 degrees of freedom");
    scenario.model == PORTFOLIO ? simulate_portfolio(&scenario) : simulate_option(&scenario);
    finish();
}
