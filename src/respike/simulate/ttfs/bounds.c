/* Neurons whose potential provably stays below theta until their last input arrives, from products of 8-bit integers.
 *
 * Leads are rounded to multiples of a step of their image, weights to multiples of a step of their neuron, each in the direction that
 * keeps the bound a bound; sums of their products are exact in 32 bits. Built with -DREAL=double and -DREAL=float, the type of leads.
 * Sums for TILE neighbouring places and BLOCK neurons are computed at once: first those of the whole leads, then where that proves too
 * little those of leads cut at a mark.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "highest.h"

#define TILE 6
#define BLOCK 64
#define GROUP 8   /* images whose leads are rounded at a time */
#define TOP 126   /* the largest rounded lead: 7 bits, with a unit to spare */
#define SMALL 1e-30
#define SPARE 0x1p-40    /* relative; above the rounding errors of a few operations of doubles */
#define ROUNDED 0x1p-20f /* the same for floats */

/* sums[t][n] = sum over k of the products of the four bytes of places[t][offsets[k]] and of weights[k][n]. */
typedef void Products(int64_t count, const int32_t *const *places, const int32_t *offsets, const uint8_t *weights,
                      int32_t sums[TILE][BLOCK]);

#ifdef __AVX512VNNI__
#include <immintrin.h>
int32_t fast(void) { return 1; }

/* Named variables, because compilers keep arrays of sums in memory. */
#define EACH1(of) of(0)
#define EACH2(of) EACH1(of) of(1)
#define EACH3(of) EACH2(of) of(2)
#define EACH4(of) EACH3(of) of(3)
#define EACH5(of) EACH4(of) of(4)
#define EACH6(of) EACH5(of) of(5)
#define START(t) __m512i a##t = zero, b##t = zero, c##t = zero, d##t = zero; const int32_t *const place##t = places[t];
#define ADD(t) \
    x = _mm512_set1_epi32(place##t[at]); \
    a##t = _mm512_dpbusd_epi32(a##t, w0, x), b##t = _mm512_dpbusd_epi32(b##t, w1, x); \
    c##t = _mm512_dpbusd_epi32(c##t, w2, x), d##t = _mm512_dpbusd_epi32(d##t, w3, x);
#define STORE(t) \
    _mm512_storeu_si512(sums[t], a##t), _mm512_storeu_si512(sums[t] + 16, b##t); \
    _mm512_storeu_si512(sums[t] + 32, c##t), _mm512_storeu_si512(sums[t] + 48, d##t);
#define PRODUCTS(tile) \
    static void products##tile(int64_t count, const int32_t *const *places, const int32_t *offsets, const uint8_t *weights, \
                               int32_t sums[TILE][BLOCK]) { \
        const __m512i zero = _mm512_setzero_si512(); \
        EACH##tile(START) \
        for (int64_t k = 0; k < count; k++, weights += 4 * BLOCK) { \
            const int64_t at = offsets[k]; \
            const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64); \
            const __m512i w2 = _mm512_loadu_si512(weights + 128), w3 = _mm512_loadu_si512(weights + 192); \
            __m512i x; \
            EACH##tile(ADD) \
        } \
        EACH##tile(STORE) \
    }
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCTS(4) PRODUCTS(5) PRODUCTS(6)
static Products *const products[1 + TILE] = {0, products1, products2, products3, products4, products5, products6};
#else
int32_t fast(void) { return 0; } /* and so never called */
static Products *const products[1 + TILE] = {0};
#endif

/* Sizes of a layer. Inputs (channels, height, width) are padded to (padded_height, padded_width); outputs (neurons, out_height,
 * out_width); a linear layer has 1 x 1 places. count: fours of inputs of a neuron. theta of neuron n at place p lies at
 * n + p * theta_place. */
typedef struct {
    int64_t channels, height, width, pad_y, pad_x, padded_height, padded_width, stride_y, stride_x, neurons, out_height, out_width;
    int64_t count, fan_in, theta_place;
    double source_length, mark, error; /* error: of a computed drive, relative to the sum of the magnitudes of its terms */
} Layer;

/* Of each neuron: the step of its weights, alpha or 0 if that is larger, sums of |w|, of max(-w, 0) and of w. */
typedef struct {
    const double *step, *alpha, *weight, *minus, *total;
} Neurons;

/* Of an image: how late its last input is, the largest lead after adding that, the steps of leads and of leads cut at the
 * mark. */
typedef struct {
    double late, largest, steps[2];
    int finite;
} Image;

/* Leads from x on, plus `late` and cut, as numbers of steps, rounded up. */
static void round_up(int64_t count, const REAL *x, REAL late, REAL cut, REAL inverse, int shift, int32_t *words) {
    for (int64_t j = 0; j < count; j++) {
        REAL lead = x[j] + late;
        lead = lead < cut ? lead : cut;
        float steps = (float)(lead * inverse) * (1 + ROUNDED);
        int32_t whole = (int32_t)steps;
        words[j] |= (whole + (steps > (float)whole)) << shift;
    }
}

/* Round the leads of an image, plus `late`; planes (2, channels / 4, padded height, padded width), four channels in a word. */
static Image round_leads(const Layer *layer, const REAL *leads, int32_t *planes, int64_t plane, int32_t *words) {
    const int64_t area = layer->height * layer->width, size = layer->channels * area;
    const int64_t padded = layer->padded_height * layer->padded_width;
    REAL low = 0, high = 0, nan = 0;
    for (int64_t j = 0; j < size; j++) {
        low = leads[j] < low ? leads[j] : low;
        high = leads[j] > high ? leads[j] : high;
    }
    for (int64_t j = 0; j < size; j++) nan += leads[j] * 0; /* NaN for inf and NaN */
    Image image = {.late = -(double)low, .largest = ((double)high - low) * (1 + ROUNDED), .finite = nan == 0};
    if (!image.finite) return image;
    for (int m = 0; m < 2; m++) {
        REAL cut = m && layer->mark < image.largest ? layer->mark : image.largest;
        REAL span = cut > SMALL ? cut : SMALL, inverse = TOP / span;
        image.steps[m] = (double)span / TOP;
        if (!(span < HUGE_VAL && inverse > 0)) image.finite = 0;
        int32_t padding = 0, word, *out = planes + m * plane;
        const REAL nothing = 0;
        round_up(1, &nothing, -low, cut, inverse, 0, &padding);
        word = padding * 0x01010101;
        for (int64_t g = 0; g < (layer->channels + 3) / 4; g++, out += padded) {
            memset(words, 0, area * sizeof(int32_t));
            for (int c = 0; c < 4 && 4 * g + c < layer->channels; c++)
                round_up(area, leads + (4 * g + c) * area, -low, cut, inverse, 8 * c, words);
            if (padded > area)
                for (int64_t j = 0; j < padded; j++) out[j] = word;
            for (int64_t y = 0; y < layer->height; y++)
                memcpy(out + (y + layer->pad_y) * layer->padded_width + layer->pad_x, words + y * layer->width, 4 * layer->width);
        }
    }
    return image;
}

/* The places of a tile: image, place of it, and its first word of leads. */
typedef struct {
    int64_t image[TILE], place[TILE];
    const int32_t *leads[TILE];
} Places;

/* What underflow, where it happens, can take from sums of products of weights and leads. */
static inline double lost(const Layer *layer, double weight, Image image) {
    return 0x1p-110 * (weight + layer->fan_in) * (1 + image.largest);
}

/* List the neurons (t, n) for which alpha (source_length + late) + sum of max(w, 0) lead is not below theta. */
static int first_bound(const Layer *layer, Neurons all, Image image, int64_t n0, int64_t lanes, int t, int64_t place,
                       const double *theta, const int32_t *sums, uint8_t (*listed)[2], int count) {
    const double *limit = theta + n0 + place * layer->theta_place, *step = all.step + n0, *alpha = all.alpha + n0;
    const double *weight = all.weight + n0, unit = image.steps[0] * (1 + SPARE), length = (layer->source_length + image.late) * (1 + SPARE);
    uint8_t found[BLOCK];
    int any = 0;
    for (int n = 0; n < lanes; n++) {
        double bound = alpha[n] * length + unit * step[n] * sums[n] + lost(layer, weight[n], image);
        found[n] = !(bound * (1 + SPARE) < limit[n]);
        any |= found[n];
    }
    if (any)
        for (int n = 0; n < lanes; n++)
            if (found[n]) listed[count][0] = t, listed[count][1] = n, count++;
    return count;
}

/* Whether `highest` with one mark is not below theta. sums: of max(w, 0) and whole leads, and with cut leads of max(w, 0), rounded
 * down, and max(-w, 0). */
static int second_bound(const Layer *layer, Neurons all, Image image, int64_t n, double theta, const int32_t *sums, double drive) {
    const double alpha = all.alpha[n], length = layer->source_length + image.late, weight = all.weight[n];
    const double unit = all.step[n] * image.steps[1], excitation = all.step[n] * image.steps[0] * sums[0] * (1 + SPARE);
    /* A lead that is not 0 is rounded up by less than a step. */
    const double less = unit * sums[1] - image.steps[1] * (1 + ROUNDED) * (weight - all.minus[n]) * (1 + SPARE);
    const double plus = less > 0 ? less * (1 - 4 * ROUNDED) : 0, minus = unit * sums[2] * (1 + SPARE);
    const double shifted = drive + image.late * all.total[n], terms = 2 * excitation + fabs(drive) + 4 * image.late * weight;
    const double error = layer->error * terms + lost(layer, weight, image);
    const double top = highest(alpha * length + shifted + error, alpha, length, all.minus[n] * (1 + SPARE), excitation - shifted + error, 1,
                               &layer->mark, &plus, &minus);
    return !(top + SPARE * (alpha * length + terms) + lost(layer, weight, image) < theta);
}

/* open[b, n, p] = 1 where it is not proved that the potential of a pair stays below theta. Images leads (channels, height, width) and
 * drive (neurons, places), the sum of w times lead as computed in REAL. weights: for each BLOCK of neurons, 3 tables (count, BLOCK, 4): max(w, 0) rounded up, the same down, max(-w, 0) up. */
void open_places(int64_t images, const Layer *layer, const REAL *leads, const REAL *drive, const int32_t *offsets,
                 const uint8_t *weights, const double *constants, const double *theta, uint8_t *open) {
    const int64_t size = layer->neurons;
    const Neurons all = {constants, constants + size, constants + 2 * size, constants + 3 * size, constants + 4 * size};
    const int64_t places = layer->out_height * layer->out_width, count = layer->count;
    const int64_t plane = (layer->channels + 3) / 4 * layer->padded_height * layer->padded_width;
    const int64_t inputs = layer->channels * layer->height * layer->width, outputs = size * places;
    int32_t *planes = malloc((2 * GROUP * plane + layer->height * layer->width) * sizeof(int32_t));
    memset(open, planes ? 0 : 1, images * outputs); /* without memory nothing is proved */
    for (int64_t first = 0; planes && first < images; first += GROUP) {
        int64_t group = images - first < GROUP ? images - first : GROUP;
        Image about[GROUP];
        for (int64_t b = 0; b < group; b++) {
            int32_t *own = planes + 2 * b * plane;
            about[b] = round_leads(layer, leads + (first + b) * inputs, own, plane, planes + 2 * GROUP * plane);
            if (!about[b].finite) memset(open + (first + b) * outputs, 1, outputs);
        }
        const uint8_t *tables = weights;
        for (int64_t n0 = 0; n0 < size; n0 += BLOCK) {
            const int64_t lanes = size - n0 < BLOCK ? size - n0 : BLOCK;
            const int64_t table = count * 4 * BLOCK;
            for (int64_t start = 0, tile; start < group * places; start += tile) {
                int64_t left = group * places - start, parts = (left + TILE - 1) / TILE;
                tile = (left + parts - 1) / parts;
                Places at;
                for (int t = 0; t < tile; t++) {
                    int64_t b = (start + t) / places, p = at.place[t] = (start + t) % places;
                    int64_t y = p / layer->out_width * layer->stride_y, x = p % layer->out_width * layer->stride_x;
                    at.image[t] = b;
                    at.leads[t] = planes + 2 * b * plane + y * layer->padded_width + x;
                }
                int32_t sums[3][TILE][BLOCK];
                products[tile](count, at.leads, offsets, tables, sums[0]);
                uint8_t listed[TILE * BLOCK][2];
                int open_pairs = 0;
                for (int t = 0; t < tile; t++) {
                    const Image image = about[at.image[t]];
                    if (image.finite)
                        open_pairs = first_bound(layer, all, image, n0, lanes, t, at.place[t], theta, sums[0][t], listed, open_pairs);
                }
                if (!open_pairs) continue;
                for (int t = 0; t < tile; t++) at.leads[t] += plane;
                products[tile](count, at.leads, offsets, tables + table, sums[1]);
                products[tile](count, at.leads, offsets, tables + 2 * table, sums[2]);
                for (int i = 0; i < open_pairs; i++) {
                    int t = listed[i][0], n = listed[i][1];
                    int64_t pair = ((first + at.image[t]) * size + n0 + n) * places + at.place[t];
                    double limit = theta[n0 + n + at.place[t] * layer->theta_place];
                    int32_t found[3] = {sums[0][t][n], sums[1][t][n], sums[2][t][n]};
                    open[pair] = second_bound(layer, all, about[at.image[t]], n0 + n, limit, found, drive[pair]);
                }
            }
            tables += 3 * table;
        }
    }
    free(planes);
}
