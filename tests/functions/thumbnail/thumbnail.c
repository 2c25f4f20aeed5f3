// A small version of one photograph: decodes a JPEG or PNG, turns it upright, scales it down in linear light and
// encodes it again. Owns the geometry, the EXIF orientation and the sharpening; the codecs and the resampling are stb's.
#include "../common/guest.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>

#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_ASSERT(condition) ((void)0)
#define STBI_MAX_DIMENSIONS 32768
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBIR_ASSERT(condition) ((void)0)
#define STB_IMAGE_RESIZE_STATIC
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STBIW_ASSERT(condition) ((void)0)
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-function"
#pragma clang diagnostic ignored "-Wunused-parameter"
#pragma clang diagnostic ignored "-Wsign-compare"
#pragma clang diagnostic ignored "-Wunused-but-set-variable"
#include <stb/stb_image.h>
#include <stb/stb_image_resize.h>
#include <stb/stb_image_write.h>
#pragma clang diagnostic pop

const char *const guest_name = "thumbnail";
const char *const guest_usage =
    "usage: thumbnail [--size N|WxH] [--fit inside|crop] [--format jpeg|png|same] [--quality N] [--sharpen N]\n"
    "                 < photo.jpg > small.jpg\n"
    "  Reads one JPEG or PNG and writes a smaller one, upright and without metadata; never enlarges.\n"
    "  --size N|WxH  largest width and height in pixels, 8 to 4096 (320)\n"
    "  --fit         inside: the whole picture within the size; crop: its proportions, cut at the edges (inside)\n"
    "  --format      jpeg, png, or same as the input (same)\n"
    "  --quality N   of a JPEG, 1 to 100 (85)\n"
    "  --sharpen N   strength in per cent, 0 to 200 (30)\n";

enum {
    INPUT_BYTES_MAX = 256 * 1024 * 1024,
    PIXELS_MAX = 100 * 1000 * 1000, // 400 MB once decoded: more does not fit beside its decoder in a guest's memory
    SIDE_MIN = 8,
    SIDE_MAX = 4096,
};

typedef enum { SAME, JPEG, PNG } Format;

typedef struct {
    int width, height;
    bool crop;
    Format format;
    int quality;
    int sharpen_percent;
} Options;

typedef struct {
    unsigned char *pixels; // rows of RGBA
    int width, height;
} Picture;

static uint32_t number_at(const unsigned char *bytes, int count, bool little) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++) value |= (uint32_t)bytes[i] << 8 * (little ? i : count - 1 - i);
    return value;
}

// The orientation tag in the first TIFF directory of an EXIF segment, 1 (upright) if there is none.
static int orientation_in_exif(const unsigned char *tiff, size_t len) {
    if (len < 8) return 1;
    bool little = tiff[0] == 'I';
    size_t at = number_at(tiff + 4, 4, little);
    if (at > len || len - at < 2) return 1;
    size_t entries = number_at(tiff + at, 2, little);
    at += 2;
    for (size_t i = 0; i < entries && len - at >= 12; i++, at += 12) {
        if (number_at(tiff + at, 2, little) != 0x0112) continue;
        uint32_t value = number_at(tiff + at + 8, 2, little);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

// Cameras store the sensor's rows and say in EXIF how to turn them.
static int orientation_of_jpeg(const Input *input) {
    const unsigned char *b = input->bytes;
    for (size_t at = 2; at + 4 <= input->len && b[at] == 0xff;) {
        unsigned char marker = b[at + 1];
        size_t segment = number_at(b + at + 2, 2, false);
        if (marker == 0xda || segment < 2 || segment > input->len - at - 2) return 1;
        if (marker == 0xe1 && segment >= 16 && !memcmp(b + at + 4, "Exif\0\0", 6))
            return orientation_in_exif(b + at + 10, segment - 8);
        at += 2 + segment;
    }
    return 1;
}

// Orientations 5 to 8 exchange the sides; 2, 3, 6, 7 ... mirror one or both. Each is a map from an upright pixel back.
static Picture turn_upright(Picture stored, int orientation) {
    if (orientation == 1) return stored;
    bool swap = orientation >= 5;
    Picture upright = {NULL, swap ? stored.height : stored.width, swap ? stored.width : stored.height};
    upright.pixels = allocate((size_t)upright.width * (size_t)upright.height * 4);
    bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    for (int y = 0; y < upright.height; y++)
        for (int x = 0; x < upright.width; x++) {
            int from_x = swap ? y : x, from_y = swap ? x : y;
            if (mirror_x) from_x = stored.width - 1 - from_x;
            if (mirror_y) from_y = stored.height - 1 - from_y;
            memcpy(upright.pixels + ((size_t)y * (size_t)upright.width + (size_t)x) * 4,
                   stored.pixels + ((size_t)from_y * (size_t)stored.width + (size_t)from_x) * 4, 4);
        }
    free(stored.pixels);
    return upright;
}

static Format format_of(const Input *input) {
    static const unsigned char png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (input->len == 0) fail("the input is empty");
    if (input->len >= 3 && input->bytes[0] == 0xff && input->bytes[1] == 0xd8 && input->bytes[2] == 0xff) return JPEG;
    if (input->len >= 8 && !memcmp(input->bytes, png, 8)) return PNG;
    fail("the input is neither a JPEG nor a PNG");
}

static Picture decode(const Input *input, bool *has_alpha) {
    int width, height, channels;
    if (!stbi_info_from_memory(input->bytes, (int)input->len, &width, &height, &channels))
        fail("the picture's header cannot be read: %s", stbi_failure_reason());
    if ((int64_t)width * height > PIXELS_MAX)
        fail("the picture has %dx%d pixels, more than the %d million that fit", width, height, PIXELS_MAX / 1000000);
    unsigned char *pixels = stbi_load_from_memory(input->bytes, (int)input->len, &width, &height, &channels, 4);
    if (!pixels) fail("the picture cannot be decoded: %s", stbi_failure_reason());
    *has_alpha = false;
    for (size_t i = 3, end = (size_t)width * (size_t)height * 4; i < end && !*has_alpha; i += 4)
        *has_alpha = pixels[i] != 255;
    return (Picture){pixels, width, height};
}

static int at_least_one(double value) { return value < 1 ? 1 : (int)(value + 0.5); }

// Cuts to the wanted proportions if asked to, then scales; a picture that is small already is not enlarged.
static Picture scale(Picture source, const Options *options) {
    double x_ratio = (double)options->width / source.width, y_ratio = (double)options->height / source.height;
    int cut_width = source.width, cut_height = source.height;
    double ratio = x_ratio < y_ratio ? x_ratio : y_ratio;
    if (options->crop) {
        ratio = x_ratio > y_ratio ? x_ratio : y_ratio;
        cut_width = at_least_one(options->width / ratio);
        cut_height = at_least_one(options->height / ratio);
        if (cut_width > source.width) cut_width = source.width;
        if (cut_height > source.height) cut_height = source.height;
    }
    if (ratio > 1) ratio = 1;
    Picture small = {NULL, at_least_one(cut_width * ratio), at_least_one(cut_height * ratio)};
    small.pixels = allocate((size_t)small.width * (size_t)small.height * 4);
    size_t left = (size_t)(source.width - cut_width) / 2, top = (size_t)(source.height - cut_height) / 2;
    const unsigned char *first = source.pixels + (top * (size_t)source.width + left) * 4;
    // sRGB to linear and back: averaged as stored, fine bright detail would darken.
    if (!stbir_resize_uint8_generic(first, cut_width, cut_height, source.width * 4, small.pixels, small.width,
                                    small.height, 0, 4, 3, 0, STBIR_EDGE_CLAMP, STBIR_FILTER_MITCHELL,
                                    STBIR_COLORSPACE_SRGB, NULL))
        fail("out of memory while the picture was scaled");
    return small;
}

static unsigned char clamp_byte(double value) { return value < 0 ? 0 : value > 255 ? 255 : (unsigned char)(value + 0.5); }

// Unsharp mask by a 3x3 binomial blur: scaling down always softens a little.
static void sharpen(Picture *picture, int percent) {
    if (percent == 0 || picture->width < 3 || picture->height < 3) return;
    size_t row = (size_t)picture->width * 4, size = row * (size_t)picture->height;
    unsigned char *before = allocate(size);
    memcpy(before, picture->pixels, size);
    for (size_t y = 1; y + 1 < (size_t)picture->height; y++)
        for (size_t x = 4; x + 4 < row; x++) {
            if ((x & 3) == 3) continue;
            const unsigned char *c = before + y * row + x;
            int blurred = 4 * c[0] + 2 * (c[-4] + c[4] + *(c - row) + c[row]) + *(c - row - 4) + *(c - row + 4) +
                          c[row - 4] + c[row + 4];
            picture->pixels[y * row + x] = clamp_byte(c[0] + percent / 100.0 * (c[0] - blurred / 16.0));
        }
    free(before);
}

// A JPEG has no transparency: what shows through is white.
static void put_on_white(Picture *picture) {
    for (size_t i = 0, end = (size_t)picture->width * (size_t)picture->height * 4; i < end; i += 4) {
        unsigned alpha = picture->pixels[i + 3];
        for (size_t c = i; c < i + 3; c++)
            picture->pixels[c] = (unsigned char)((picture->pixels[c] * alpha + 255 * (255 - alpha) + 127) / 255);
        picture->pixels[i + 3] = 255;
    }
}

static void write_bytes(void *context, void *data, int size) {
    (void)context;
    write_output(data, (size_t)size);
}

static void encode(Picture picture, Format format, bool has_alpha, int quality) {
    bool written;
    if (format == JPEG) {
        put_on_white(&picture);
        written = stbi_write_jpg_to_func(write_bytes, NULL, picture.width, picture.height, 4, picture.pixels, quality);
    } else {
        int channels = has_alpha ? 4 : 3;
        if (!has_alpha)
            for (size_t i = 0, end = (size_t)picture.width * (size_t)picture.height; i < end; i++)
                memmove(picture.pixels + i * 3, picture.pixels + i * 4, 3);
        stbi_write_png_compression_level = 9;
        written = stbi_write_png_to_func(write_bytes, NULL, picture.width, picture.height, channels, picture.pixels,
                                         picture.width * channels);
    }
    if (!written) fail("out of memory while the picture was encoded");
}

static void parse_size(const char *text, Options *options) {
    char first[16];
    const char *cross = strchr(text, 'x');
    size_t first_len = cross ? (size_t)(cross - text) : strlen(text);
    if (first_len >= sizeof first) usage_error("--size wants N or WxH, not \"%s\"", text);
    memcpy(first, text, first_len);
    first[first_len] = 0;
    options->width = (int)parse_count("--size", first, SIDE_MIN, SIDE_MAX);
    options->height = cross ? (int)parse_count("--size", cross + 1, SIDE_MIN, SIDE_MAX) : options->width;
}

static Options parse_options(int argc, char **argv) {
    Options options = {320, 320, false, SAME, 85, 30};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--help")) show_usage();
        if (strcmp(name, "--size") && strcmp(name, "--fit") && strcmp(name, "--format") && strcmp(name, "--quality") &&
            strcmp(name, "--sharpen"))
            usage_error("\"%s\" is not an option", name);
        const char *value = option_value(argc, argv, &i);
        if (!strcmp(name, "--size")) parse_size(value, &options);
        else if (!strcmp(name, "--quality")) options.quality = (int)parse_count(name, value, 1, 100);
        else if (!strcmp(name, "--sharpen")) options.sharpen_percent = (int)parse_count(name, value, 0, 200);
        else if (!strcmp(name, "--fit")) {
            options.crop = !strcmp(value, "crop");
            if (!options.crop && strcmp(value, "inside")) usage_error("--fit is inside or crop, not \"%s\"", value);
        } else if (!strcmp(value, "jpeg")) options.format = JPEG;
        else if (!strcmp(value, "png")) options.format = PNG;
        else if (!strcmp(value, "same")) options.format = SAME;
        else usage_error("--format is jpeg, png or same, not \"%s\"", value);
    }
    return options;
}

int main(int argc, char **argv) {
    Options options = parse_options(argc, argv);
    Input input = read_input(INPUT_BYTES_MAX);
    Format source_format = format_of(&input);
    bool has_alpha;
    Picture source = decode(&input, &has_alpha);
    int orientation = source_format == JPEG ? orientation_of_jpeg(&input) : 1;
    free(input.bytes);
    int source_width = source.width, source_height = source.height;
    Picture small = scale(turn_upright(source, orientation), &options);
    sharpen(&small, options.sharpen_percent);
    encode(small, options.format == SAME ? source_format : options.format, has_alpha, options.quality);
    fprintf(stderr, "%s: %dx%d to %dx%d\n", guest_name, source_width, source_height, small.width, small.height);
    finish();
}
