/* First crossings of the threshold for pairs of an image's row of inputs and a neuron; see search.py for the same in PyTorch.
 *
 * Pairs that share a row stand together, and LANES of them run side by side: each step of one waits for its last.
 */
#include <math.h>
#include <stdint.h>

#define LANES 4

#define DEFINE(REAL)                                                                                                       \
    /* 1 in open[p] where alpha+ (source_length + late) + sum of w+ (lead + late) does not stay below theta. */            \
    void open_##REAL(int64_t pairs, int64_t fan_in, double source_length, const REAL *rows, const REAL *late,              \
                     const int64_t *row, const REAL *weights, const int64_t *neuron, const double *alpha,                  \
                     const double *theta, uint8_t *open) {                                                                 \
        for (int64_t p = 0; p < pairs; p++) {                                                                              \
            const REAL *x = rows + row[p] * fan_in, *w = weights + neuron[p] * fan_in, l = late[row[p]];                   \
            double a = alpha[neuron[p]], bound = (a > 0 ? a : 0) * (source_length + l), slope = a, part[8] = {0},          \
                   sums[8] = {0};                                                                                          \
            int64_t j = 0;                                                                                                 \
            for (; j + 8 <= fan_in; j += 8)                                                                                \
                for (int i = 0; i < 8; i++) {                                                                              \
                    part[i] += (double)(w[j + i] > 0 ? w[j + i] : 0) * (x[j + i] + l);                                     \
                    sums[i] += w[j + i];                                                                                   \
                }                                                                                                          \
            for (; j < fan_in; j++) {                                                                                      \
                part[0] += (double)(w[j] > 0 ? w[j] : 0) * (x[j] + l);                                                     \
                sums[0] += w[j];                                                                                           \
            }                                                                                                              \
            for (int i = 0; i < 8; i++) bound += part[i], slope += sums[i];                                                \
            open[p] = !(bound < theta[p]) || slope <= 0;                                                                   \
        }                                                                                                                  \
    }                                                                                                                      \
    /* times[p]: when V reaches theta while inputs still arrive, NaN where it does not. arrivals, order (R, fan_in). */    \
    void cross_##REAL(int64_t pairs, int64_t fan_in, double onset, const REAL *arrivals, const int32_t *order,             \
                      const int64_t *row, const REAL *weights, const int64_t *neuron, const double *alpha,                 \
                      const double *theta, double *times) {                                                                \
        for (int64_t p = 0; p < pairs;) {                                                                                  \
            int lanes = 1;                                                                                                 \
            while (lanes < LANES && p + lanes < pairs && row[p + lanes] == row[p]) lanes++;                                \
            const REAL *t = arrivals + row[p] * fan_in, *w[LANES];                                                         \
            const int32_t *o = order + row[p] * fan_in;                                                                    \
            double v[LANES] = {0}, slope[LANES] = {0}, bar[LANES], found[LANES], drive[LANES];                             \
            double now = fan_in && t[0] < onset ? t[0] : onset;                                                            \
            for (int i = 0; i < LANES; i++) {                                                                              \
                int64_t at = p + (i < lanes ? i : 0);                                                                      \
                w[i] = weights + neuron[at] * fan_in, drive[i] = alpha[neuron[at]];                                        \
                bar[i] = i < lanes ? theta[at] : INFINITY, found[i] = NAN;                                                 \
                if (bar[i] <= 0) found[i] = now, bar[i] = INFINITY;                                                        \
            }                                                                                                              \
            int begun = 0;                                                                                                 \
            for (int64_t k = 0; k < fan_in || !begun;) {                                                                   \
                int drives = !begun && (k == fan_in || t[k] >= onset);                                                     \
                double dt = (drives ? onset : t[k]) - now;                                                                 \
                int reached = 0;                                                                                           \
                for (int i = 0; i < LANES; i++) v[i] += slope[i] * dt, reached |= v[i] >= bar[i];                          \
                if (reached)                                                                                               \
                    for (int i = 0; i < LANES; i++)                                                                        \
                        if (v[i] >= bar[i]) {                                                                              \
                            double since = dt - (v[i] - bar[i]) / slope[i];                                                \
                            found[i] = now + (since > 0 ? since : 0), bar[i] = INFINITY;                                   \
                        }                                                                                                  \
                now += dt;                                                                                                 \
                if (drives) {                                                                                              \
                    for (int i = 0; i < LANES; i++) slope[i] += drive[i];                                                  \
                    begun = 1;                                                                                             \
                } else {                                                                                                   \
                    for (int i = 0; i < LANES; i++) slope[i] += w[i][o[k]];                                                \
                    now = t[k++];                                                                                          \
                }                                                                                                          \
            }                                                                                                              \
            for (int i = 0; i < lanes; i++) times[p + i] = found[i];                                                       \
            p += lanes;                                                                                                    \
        }                                                                                                                  \
    }

DEFINE(double)
DEFINE(float)
