/* First crossings of the threshold, for pairs of a row of inputs (of one image) and a neuron. search.py does the same in PyTorch.
 *
 * Built twice, with -DREAL=double and -DREAL=float, the type of leads and weights. Potentials are doubles in both. Pairs that share
 * a row are adjacent, and LANES of them are integrated side by side, because each addition waits for the one before it. Inputs that
 * arrive last in their row (with ReLUs most inputs do) change no potential before, and are left out of the order.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "highest.h"

#define LANES 4
#define DIGIT 11 /* bits per pass of the radix sort */
#define PARTS (64 / (int)sizeof(REAL))
#define EPSILON (sizeof(REAL) == 4 ? FLT_EPSILON : DBL_EPSILON)
#define LEAST (sizeof(REAL) == 4 ? FLT_MIN : DBL_MIN)
#define MARKS 3

typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL))));
typedef int64_t Bits __attribute__((vector_size(64)));
static const double SHARES[MARKS] = {0.008, 0.03, 0.1}; /* of the source's interval: most activations are far below the largest */

/* The bits of the lead in float32, as an integer that decreases as leads increase. */
static inline uint32_t key_of(float lead) {
    uint32_t bits;
    memcpy(&bits, &lead, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

/* Sort order (n) by its 32-bit keys (n), in three passes; the result lies in the second pair of arrays. */
static void radix_sort(int64_t n, uint32_t *keys, int32_t *order, uint32_t *other_keys, int32_t *other_order) {
    for (int shift = 0; shift < 32; shift += DIGIT) {
        int32_t starts[1 << DIGIT] = {0}, sum = 0;
        for (int64_t k = 0; k < n; k++) starts[keys[k] >> shift & ((1 << DIGIT) - 1)]++;
        for (int d = 0; d < 1 << DIGIT; d++) {
            int32_t count = starts[d];
            starts[d] = sum;
            sum += count;
        }
        for (int64_t k = 0; k < n; k++) {
            int32_t at = starts[keys[k] >> shift & ((1 << DIGIT) - 1)]++;
            other_keys[at] = keys[k];
            other_order[at] = order[k];
        }
        uint32_t *used_keys = keys;
        int32_t *used_order = order;
        keys = other_keys, order = other_order, other_keys = used_keys, other_order = used_order;
    }
}

/* Sums over the inputs of a row, cut at each mark and whole. */
typedef struct {
    double plus[1 + MARKS], minus[1 + MARKS];
} Sums;

/* Of max(w, 0) x and max(-w, 0) x, for rows (1 + MARKS, stride) that end with zeros. */
static Sums sums_of(int64_t fan_in, const REAL *w, const REAL *rows, int64_t stride) {
    Vector signed_sums[1 + MARKS] = {0}, sums[1 + MARKS] = {0}, last = {0};
    Sums found = {{0}};
#define ADD(m) \
    x = *(const Vector *)(rows + m * stride + j); \
    signed_sums[m] += weight * x, sums[m] += size * x;
    for (int64_t j = 0; j < fan_in; j += PARTS) {
        Vector weight, x;
        if (j + PARTS > fan_in) {
            for (int i = 0; j + i < fan_in; i++) last[i] = w[j + i];
            weight = last;
        } else
            weight = *(const Vector *)(w + j);
        const Vector size = (Vector)((Bits)weight & ~(Bits)-(Vector){0});
        ADD(0) ADD(1) ADD(2) ADD(3)
    }
    for (int m = 0; m <= MARKS; m++)
        for (int i = 0; i < PARTS; i++) {
            found.plus[m] += ((double)sums[m][i] + signed_sums[m][i]) / 2;
            found.minus[m] += ((double)sums[m][i] - signed_sums[m][i]) / 2;
        }
    return found;
}

/* needs_search[p] = 1 unless it is proved that the potential stays below theta until the last input of the row, also if every rounding
 * error were in favour of that. With leads counted from that input, max(alpha, 0) (source_length + late) + sum of max(w, 0) lead is a
 * bound, and so is `highest`. Sums of products computed in REAL are wrong by at most `error` of the sum of magnitudes, and by what
 * underflow takes, as in `Sums` of program.py. Pair p reads leads[key[p] + offsets[j]]; adjacent pairs of one key share the row.
 * minus, magnitude: sums of max(-w, 0) and of |w| of each neuron. */
void open_pairs(int64_t pairs, int64_t fan_in, double source_length, const REAL *leads, const int64_t *offsets, const double *minus,
                const double *magnitude, const int64_t *key, const REAL *weights, const int64_t *neuron, const double *alpha,
                const double *theta, uint8_t *needs_search) {
    const double error = (fan_in + 16) * (double)EPSILON;
    const int64_t stride = (fan_in + PARTS - 1) / PARTS * PARTS;
    REAL *rows = calloc((1 + MARKS) * stride, sizeof(REAL)), *whole = rows + MARKS * stride, late = 0, largest = 0;
    double marks[MARKS];
    for (int m = 0; m < MARKS; m++) marks[m] = (REAL)(SHARES[m] * source_length);
    memset(needs_search, 1, pairs); /* without memory nothing is proved */
    for (int64_t p = 0; rows && p < pairs; p++) {
        if (p == 0 || key[p] != key[p - 1]) {
            REAL lowest = 0;
            for (int64_t j = 0; j < fan_in; j++) whole[j] = leads[key[p] + offsets[j]];
            for (int64_t j = 0; j < fan_in; j++) lowest = whole[j] < lowest ? whole[j] : lowest;
            late = -lowest, largest = 0;
            for (int64_t j = 0; j < fan_in; j++) {
                whole[j] += late;
                largest = whole[j] > largest ? whole[j] : largest;
            }
            for (int m = 0; m < MARKS; m++)
                for (int64_t j = 0; j < fan_in; j++) rows[m * stride + j] = whole[j] < (REAL)marks[m] ? whole[j] : (REAL)marks[m];
        }
        const int64_t n = neuron[p];
        const Sums sums = sums_of(fan_in, weights + n * fan_in, rows, stride);
        const double drive = alpha[n] > 0 ? alpha[n] : 0, constant = drive * (source_length + late);
        const double up = sums.plus[MARKS], down = sums.minus[MARKS], all = constant + up + down;
        const double spare = 8 * error * (up + down) + 64 * DBL_EPSILON * all;
        const double lost = 8 * (double)LEAST * (fan_in + magnitude[n]) * (1 + (double)largest);
        const double top = highest(constant + up - down, drive, source_length + late, minus[n], down, MARKS, marks, sums.plus, sums.minus);
        needs_search[p] = !(constant + up + error * (up + down) + 16 * DBL_EPSILON * all + lost < theta[p]) &&
                          !(top + spare + lost < theta[p]);
    }
    free(rows);
}

/* For each row r, the order of its counts[r] inputs that arrive before the last arrival (or before the onset, if that is later), and
 * their arrival times, followed by the last arrival. arrivals (count, fan_in + 1), order (count, fan_in), scratch (3 fan_in). */
void sort_rows(int64_t count, int64_t fan_in, double onset, const REAL *rows, REAL *arrivals, int32_t *order, int64_t *counts,
               int32_t *scratch) {
    uint32_t *keys = (uint32_t *)scratch, *sorted = keys + fan_in;
    int32_t *unsorted = scratch + 2 * fan_in;
    for (int64_t r = 0; r < count; r++) {
        const REAL *x = rows + r * fan_in;
        REAL *t = arrivals + r * (fan_in + 1), lowest = -onset;
        int32_t *o = order + r * fan_in;
        int64_t n = 0;
        for (int64_t j = 0; j < fan_in; j++) lowest = x[j] < lowest ? x[j] : lowest;
        for (int64_t j = 0; j < fan_in; j++)
            if (x[j] > lowest) {
                unsorted[n] = j;
                keys[n] = key_of(x[j]);
                n++;
            }
        radix_sort(n, keys, unsorted, sorted, o);
        for (int64_t k = 1; k < n; k++) { /* insertion sort of leads that are equal in float32 */
            int32_t moved = o[k];
            int64_t i = k;
            for (; i > 0 && x[o[i - 1]] < x[moved]; i--) o[i] = o[i - 1];
            o[i] = moved;
        }
        for (int64_t k = 0; k < n; k++) t[k] = -x[o[k]];
        t[n] = -lowest;
        counts[r] = n;
    }
}

/* times[p]: when V reaches theta while inputs still arrive, NaN if it does not. The rows are those of sort_rows. */
void crossing_times(int64_t pairs, int64_t fan_in, double onset, const REAL *arrivals, const int32_t *order, const int64_t *counts,
                    const int64_t *row, const REAL *weights, const int64_t *neuron, const double *alpha, const double *theta,
                    double *times) {
    for (int64_t p = 0; p < pairs;) {
        int lanes = 1, drive_is_on = 0;
        while (lanes < LANES && p + lanes < pairs && row[p + lanes] == row[p]) lanes++;
        const REAL *t = arrivals + row[p] * (fan_in + 1), *w[LANES];
        const int32_t *o = order + row[p] * fan_in;
        const int64_t n = counts[row[p]];
        double v[LANES] = {0}, slope[LANES] = {0}, threshold[LANES], found[LANES], drive[LANES];
        double now = t[0] < onset ? t[0] : onset;
        for (int i = 0; i < LANES; i++) {
            int64_t pair = p + (i < lanes ? i : 0);
            w[i] = weights + neuron[pair] * fan_in;
            drive[i] = alpha[neuron[pair]];
            threshold[i] = i < lanes ? theta[pair] : INFINITY;
            found[i] = NAN;
        }
        for (int64_t k = 0; k <= n;) {
            int drive_is_next = !drive_is_on && t[k] >= onset, reached = 0;
            double next = drive_is_next ? onset : t[k], dt = next - now;
            for (int i = 0; i < LANES; i++) {
                v[i] += slope[i] * dt;
                reached |= v[i] >= threshold[i];
            }
            if (reached)
                for (int i = 0; i < LANES; i++)
                    if (v[i] >= threshold[i]) { /* a theta of 0 or less is reached at the first arrival, with a slope of 0 */
                        double since = dt - (v[i] - threshold[i]) / slope[i];
                        found[i] = now + (since > 0 ? since : 0);
                        threshold[i] = INFINITY;
                    }
            now = next;
            if (drive_is_next) {
                for (int i = 0; i < LANES; i++) slope[i] += drive[i];
                drive_is_on = 1;
            } else {
                if (k < n)
                    for (int i = 0; i < LANES; i++) slope[i] += w[i][o[k]];
                k++;
            }
        }
        for (int i = 0; i < lanes; i++) times[p + i] = found[i];
        p += lanes;
    }
}
