/* First crossings of the threshold for pairs of an image's row of inputs and a neuron; see search.py for the same in PyTorch.
 *
 * Pairs that share a row stand together, and LANES of them run side by side: each step of one waits for its last. Inputs
 * that come at a row's last arrival, with ReLUs most of them, change no potential before it and are left out of the order.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 4
#define DIGIT 11 /* bits that one pass of the radix sort looks at */

/* Bits of the lead's float32 as an integer that falls where leads rise. */
static inline uint32_t key_of(float lead) {
    uint32_t bits;
    memcpy(&bits, &lead, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

/* order (n) by its 32-bit keys (n), in three passes; the second pair of arrays receives the result. */
static void radix(int64_t n, uint32_t *keys, int32_t *order, uint32_t *other_keys, int32_t *other_order) {
    for (int shift = 0; shift < 32; shift += DIGIT) {
        int32_t starts[1 << DIGIT] = {0}, sum = 0;
        for (int64_t k = 0; k < n; k++) starts[keys[k] >> shift & ((1 << DIGIT) - 1)]++;
        for (int d = 0; d < 1 << DIGIT; d++) {
            int32_t count = starts[d];
            starts[d] = sum, sum += count;
        }
        for (int64_t k = 0; k < n; k++) {
            int32_t at = starts[keys[k] >> shift & ((1 << DIGIT) - 1)]++;
            other_keys[at] = keys[k], other_order[at] = order[k];
        }
        uint32_t *used_keys = keys;
        int32_t *used_order = order;
        keys = other_keys, order = other_order, other_keys = used_keys, other_order = used_order;
    }
}

#define DEFINE(REAL)                                                                                                       \
    /* 1 in open[p] where alpha+ (source_length + late) + sum of w+ (lead + late) does not stay below theta. Neuron p reads\
     * leads[key[p] + offsets[j]]; pairs of one key stand together, and share a row (fan_in). */                           \
    void open_##REAL(int64_t pairs, int64_t fan_in, double source_length, const REAL *leads, const int64_t *offsets,       \
                     const int64_t *key, const REAL *weights, const int64_t *neuron, const double *alpha,                  \
                     const double *theta, uint8_t *open) {                                                                 \
        REAL *row = malloc(fan_in * sizeof(REAL)), l = 0;                                                                  \
        memset(open, 1, pairs); /* what is not looked at is not proved */                                                  \
        for (int64_t p = 0; row && p < pairs; p++) {                                                                       \
            const REAL *w = weights + neuron[p] * fan_in;                                                                  \
            if (!p || key[p] != key[p - 1]) {                                                                              \
                REAL lowest = 0;                                                                                           \
                for (int64_t j = 0; j < fan_in; j++) {                                                                     \
                    row[j] = leads[key[p] + offsets[j]];                                                                   \
                    lowest = row[j] < lowest ? row[j] : lowest;                                                            \
                }                                                                                                          \
                l = -lowest;                                                                                               \
            }                                                                                                              \
            double a = alpha[neuron[p]], bound = (a > 0 ? a : 0) * (source_length + l), slope = a, part[8] = {0},          \
                   sums[8] = {0};                                                                                          \
            int64_t j = 0;                                                                                                 \
            for (; j + 8 <= fan_in; j += 8)                                                                                \
                for (int i = 0; i < 8; i++) {                                                                              \
                    part[i] += (double)(w[j + i] > 0 ? w[j + i] : 0) * (row[j + i] + l);                                   \
                    sums[i] += w[j + i];                                                                                   \
                }                                                                                                          \
            for (; j < fan_in; j++) {                                                                                      \
                part[0] += (double)(w[j] > 0 ? w[j] : 0) * (row[j] + l);                                                   \
                sums[0] += w[j];                                                                                           \
            }                                                                                                              \
            for (int i = 0; i < 8; i++) bound += part[i], slope += sums[i];                                                \
            open[p] = !(bound < theta[p]) || slope <= 0;                                                                   \
        }                                                                                                                  \
        free(row);                                                                                                         \
    }                                                                                                                      \
    /* Of each row the counts[r] inputs that come before its last arrival (or the onset, if later), in order, and then that. */\
    void order_##REAL(int64_t count, int64_t fan_in, double onset, const REAL *rows, REAL *arrivals, int32_t *order,       \
                      int64_t *counts, int32_t *scratch) {                                                                 \
        uint32_t *keys = (uint32_t *)scratch, *sorted = keys + fan_in;                                                     \
        int32_t *unsorted = scratch + 2 * fan_in;                                                                          \
        for (int64_t r = 0; r < count; r++) {                                                                              \
            const REAL *x = rows + r * fan_in;                                                                             \
            REAL *t = arrivals + r * (fan_in + 1), lowest = -onset;                                                        \
            int32_t *o = order + r * fan_in;                                                                               \
            int64_t n = 0;                                                                                                 \
            for (int64_t j = 0; j < fan_in; j++) lowest = x[j] < lowest ? x[j] : lowest;                                   \
            for (int64_t j = 0; j < fan_in; j++)                                                                           \
                if (x[j] > lowest) unsorted[n] = j, keys[n++] = key_of(x[j]);                                              \
            radix(n, keys, unsorted, sorted, o);                                                                           \
            for (int64_t k = 1; k < n; k++) { /* leads that are one in float32 */                                          \
                int32_t own = o[k];                                                                                        \
                int64_t i = k;                                                                                             \
                for (; i > 0 && x[o[i - 1]] < x[own]; i--) o[i] = o[i - 1];                                                \
                o[i] = own;                                                                                                \
            }                                                                                                              \
            for (int64_t k = 0; k < n; k++) t[k] = -x[o[k]];                                                               \
            t[n] = -lowest, counts[r] = n;                                                                                 \
        }                                                                                                                  \
    }                                                                                                                      \
    /* times[p]: when V reaches theta by the last arrival, NaN where it does not. arrivals (R, fan_in + 1), order (R, fan_in). */\
    void cross_##REAL(int64_t pairs, int64_t fan_in, double onset, const REAL *arrivals, const int32_t *order,             \
                      const int64_t *counts, const int64_t *row, const REAL *weights, const int64_t *neuron,               \
                      const double *alpha, const double *theta, double *times) {                                           \
        for (int64_t p = 0; p < pairs;) {                                                                                  \
            int lanes = 1, begun = 0;                                                                                      \
            while (lanes < LANES && p + lanes < pairs && row[p + lanes] == row[p]) lanes++;                                \
            const REAL *t = arrivals + row[p] * (fan_in + 1), *w[LANES];                                                   \
            const int32_t *o = order + row[p] * fan_in;                                                                    \
            const int64_t n = counts[row[p]];                                                                              \
            double v[LANES] = {0}, slope[LANES] = {0}, bar[LANES], found[LANES], drive[LANES];                             \
            double now = t[0] < onset ? t[0] : onset;                                                                      \
            for (int i = 0; i < LANES; i++) {                                                                              \
                int64_t at = p + (i < lanes ? i : 0);                                                                      \
                w[i] = weights + neuron[at] * fan_in, drive[i] = alpha[neuron[at]];                                        \
                bar[i] = i < lanes ? theta[at] : INFINITY, found[i] = NAN;                                                 \
            }                                                                                                              \
            for (int64_t k = 0; k <= n;) {                                                                                 \
                int drives = !begun && t[k] >= onset, reached = 0;                                                         \
                double next = drives ? onset : t[k], dt = next - now;                                                      \
                for (int i = 0; i < LANES; i++) v[i] += slope[i] * dt, reached |= v[i] >= bar[i];                          \
                if (reached)                                                                                               \
                    for (int i = 0; i < LANES; i++)                                                                        \
                        if (v[i] >= bar[i]) { /* a theta of 0 or less is reached at the first arrival, on a slope of 0 */  \
                            double since = dt - (v[i] - bar[i]) / slope[i];                                                \
                            found[i] = now + (since > 0 ? since : 0), bar[i] = INFINITY;                                   \
                        }                                                                                                  \
                now = next;                                                                                                \
                if (drives) {                                                                                              \
                    for (int i = 0; i < LANES; i++) slope[i] += drive[i];                                                  \
                    begun = 1;                                                                                             \
                } else {                                                                                                   \
                    if (k < n)                                                                                             \
                        for (int i = 0; i < LANES; i++) slope[i] += w[i][o[k]];                                            \
                    k++;                                                                                                   \
                }                                                                                                          \
            }                                                                                                              \
            for (int i = 0; i < lanes; i++) times[p + i] = found[i];                                                       \
            p += lanes;                                                                                                    \
        }                                                                                                                  \
    }

DEFINE(double)
DEFINE(float)
