/* tdBN, the sum with a shortcut, and LIF over T steps, forward and backward; see layers/norm_lif.py for the same in PyTorch.
 *
 * Tensors are rows of channels: y[t][p][c] with p over images and places (channels last), REAL numbers. A channel's current
 * is z = scale y + shift, plus the shortcut as it is (SPIKES) or with a scale and shift of its own (NORMED). Nothing is
 * kept for the backward pass, which integrates again: arithmetic is cheaper than memory.
 * Built with -DSTEPS=T, -DBF16 for bfloat16 numbers, one of -DRECTANGLE, -DTRIANGLE, -DSIGMOID, -DATAN, -DSOFT for a soft reset,
 * -DDETACH for no gradient through the reset, and -ffp-contract=off, so that both passes see the same spikes.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#define FLUSH 64 /* rows that are summed in float32 before their sum goes to float64 */

#ifdef BF16
typedef uint16_t REAL;
static inline float get(REAL x) {
    union { uint32_t bits; float value; } word = {(uint32_t)x << 16};
    return word.value;
}
static inline REAL put(float x) { /* to the nearest, ties to even */
    union { float value; uint32_t bits; } word = {x};
    return (word.bits + 0x7fff + (word.bits >> 16 & 1)) >> 16;
}
#define ONE 0x3f80
#else
typedef float REAL;
static inline float get(REAL x) { return x; }
static inline REAL put(float x) { return x; }
#define ONE 1.0f
#endif

enum shortcut { NONE, SPIKES, NORMED };

/* places: images times pixels; still: y has one step, constant over time; the six vectors of norms are (channels). */
typedef struct {
    int64_t places, channels, kind, still, threads;
    float v_th, tau, centre, a; /* centre and a (width, or steepness) of the surrogate */
    const REAL *y, *shortcut;
    const float *scale, *shift, *shortcut_scale, *shortcut_shift;
} Layer;

/* h at the distance x from the surrogate's centre. */
static inline float surrogate(float x, float a) {
#if defined(RECTANGLE)
    return fabsf(x) < a ? 1 / (2 * a) : 0.0f;
#elif defined(TRIANGLE)
    float h = 1 - fabsf(x) / a;
    return h > 0 ? h / a : 0.0f;
#elif defined(SIGMOID)
    float s = 1 / (1 + expf(-a * x));
    return a * s * (1 - s);
#else
    float z = (float)M_PI_2 * a * x;
    return a / 2 / (1 + z * z);
#endif
}

/* What a step keeps of the potential before it. */
static inline float kept(float u, float v_th) {
#ifdef SOFT
    return u > v_th ? u - v_th : u;
#else
    return u > v_th ? 0.0f : u;
#endif
}

/* Potentials u[t] of channel c at place p. */
static inline __attribute__((always_inline)) void integrate(
    const Layer *l, int64_t p, int64_t c, enum shortcut kind, int still, float *u) {
    const int64_t stride = l->places * l->channels, at = p * l->channels + c;
    float before = 0;
#pragma GCC unroll 16
    for (int t = 0; t < STEPS; t++) {
        float z = get(l->y[at + (still ? 0 : t * stride)]) * l->scale[c] + l->shift[c];
        if (kind == SPIKES) z += get(l->shortcut[at + t * stride]);
        if (kind == NORMED) z += get(l->shortcut[at + t * stride]) * l->shortcut_scale[c] + l->shortcut_shift[c];
        u[t] = l->tau * before + z;
        before = kept(u[t], l->v_th);
    }
}

/* dL/du[t] from dL/do[t] (gradient), in reverse time. */
static inline __attribute__((always_inline)) void reverse(
    const Layer *l, int64_t p, int64_t c, const REAL *gradient, const float *u, float *d) {
    const int64_t stride = l->places * l->channels, at = p * l->channels + c;
    float later = 0;
#pragma GCC unroll 16
    for (int t = STEPS - 1; t >= 0; t--) {
        float into = get(gradient[at + t * stride]);
#if !defined(DETACH) && defined(SOFT)
        into -= l->tau * later * l->v_th;
#elif !defined(DETACH)
        into -= l->tau * later * u[t];
#endif
#ifdef SOFT
        float through = l->tau * later;
#else
        float through = u[t] > l->v_th ? 0.0f : l->tau * later;
#endif
        d[t] = later = into * surrogate(u[t] - l->centre, l->a) + through;
    }
}

/* [first, last) of this thread's share of n. Every thread has sums of its own, so that they are added in one order. */
#define SHARE(n)                                                                                                           \
    const int64_t first = (n) * omp_get_thread_num() / omp_get_num_threads(),                                              \
                  last = (n) * (omp_get_thread_num() + 1) / omp_get_num_threads()

/* A copy that nothing else can point into: without it the compiler reads every field again after each store. */
#define LOCAL(layer)                                                                                                       \
    const Layer copy = *(layer), *const l = &copy

static inline void add_to(double *sums, float *part, int64_t n) {
    for (int64_t i = 0; i < n; i++) sums[i] += part[i], part[i] = 0;
}

/* sums[thread][0][c] of y - pivot and [1][c] of its square, over rows of y; pivot (C,) is y's first row. */
void statistics(int64_t rows, int64_t channels, int64_t threads, const REAL *y, double *sums) {
#pragma omp parallel num_threads(threads)
    {
        SHARE(rows);
        float part[2 * channels], pivot[channels];
        double *own = sums + 2 * channels * omp_get_thread_num();
        memset(part, 0, sizeof part);
        for (int64_t c = 0; c < channels; c++) pivot[c] = get(y[c]);
        for (int64_t r = first; r < last; r++) {
            const REAL *row = y + r * channels;
#pragma GCC ivdep
            for (int64_t c = 0; c < channels; c++) {
                float x = get(row[c]) - pivot[c];
                part[c] += x, part[channels + c] += x * x;
            }
            if ((r + 1 - first) % FLUSH == 0) add_to(own, part, 2 * channels);
        }
        add_to(own, part, 2 * channels);
    }
}

#define EACH_KIND(call)                                                                                                    \
    switch (l->kind) {                                                                                                     \
        case NONE: if (l->still) { call(NONE, 1) } else { call(NONE, 0) } break;                                           \
        case SPIKES: call(SPIKES, 0) break;                                                                                \
        default: call(NORMED, 0)                                                                                           \
    }

/* spikes[t][p][c], 0 or 1. */
void forward(const Layer *layer, REAL *spikes) {
    const int64_t stride = layer->places * layer->channels;
#pragma omp parallel num_threads(layer->threads)
    {
        LOCAL(layer);
        SHARE(l->places);
#define ROWS(KIND, STILL)                                                                                                  \
    for (int64_t p = first; p < last; p++) {                                                                               \
        REAL *row = spikes + p * l->channels;                                                                              \
        _Pragma("GCC ivdep") for (int64_t c = 0; c < l->channels; c++) {                                                    \
            float u[STEPS];                                                                                                \
            integrate(l, p, c, KIND, STILL, u);                                                                            \
            _Pragma("GCC unroll 16") for (int t = 0; t < STEPS; t++) row[c + t * stride] = u[t] > l->v_th ? ONE : 0;       \
        }                                                                                                                  \
    }
        EACH_KIND(ROWS)
#undef ROWS
    }
}

/* Per channel the sums of d = dL/du, of d (y - mean), and of d (shortcut - mean of it), (threads, 3, C), in float64.
 * to_shortcut, where not NULL, receives d: the gradient of a shortcut of spikes. */
void backward_sums(const Layer *layer, const REAL *gradient, const float *mean, const float *shortcut_mean, REAL *to_shortcut,
                   double *sums) {
    const int64_t C = layer->channels, stride = layer->places * C;
#pragma omp parallel num_threads(layer->threads)
    {
        LOCAL(layer);
        SHARE(l->places);
        float part[3 * C];
        double *own = sums + 3 * C * omp_get_thread_num();
        memset(part, 0, sizeof part);
#define ROWS(KIND, STILL)                                                                                                  \
    for (int64_t p = first; p < last; p++) {                                                                               \
        _Pragma("GCC ivdep") for (int64_t c = 0; c < C; c++) {                                                              \
            float u[STEPS], d[STEPS], sum = 0, with_y = 0, with_shortcut = 0;                                              \
            integrate(l, p, c, KIND, STILL, u);                                                                            \
            reverse(l, p, c, gradient, u, d);                                                                              \
            _Pragma("GCC unroll 16") for (int t = 0; t < STEPS; t++) {                                                     \
                const int64_t at = p * C + c + t * stride;                                                                 \
                sum += d[t];                                                                                               \
                with_y += d[t] * (get(l->y[STILL ? p * C + c : at]) - mean[c]);                                            \
                if (KIND == NORMED) with_shortcut += d[t] * (get(l->shortcut[at]) - shortcut_mean[c]);                     \
                if (KIND == SPIKES) to_shortcut[at] = put(d[t]);                                                           \
            }                                                                                                              \
            part[c] += sum, part[C + c] += with_y;                                                                         \
            if (KIND == NORMED) part[2 * C + c] += with_shortcut;                                                          \
        }                                                                                                                  \
        if ((p + 1 - first) % FLUSH == 0) add_to(own, part, 3 * C);                                                        \
    }
        EACH_KIND(ROWS)
#undef ROWS
        add_to(own, part, 3 * C);
    }
}

/* to_y = scale d - slope (y - mean) - offset, summed over time where y is still; likewise to_shortcut where NORMED.
 * slope and offset (C,) hold what tdBN's statistics pass back; those of the shortcut follow behind them. */
void backward(const Layer *layer, const REAL *gradient, const float *mean, const float *slope, const float *offset, REAL *to_y,
              REAL *to_shortcut) {
    const int64_t C = layer->channels, stride = layer->places * C;
#pragma omp parallel num_threads(layer->threads)
    {
        LOCAL(layer);
        SHARE(l->places);
#define ROWS(KIND, STILL)                                                                                                  \
    for (int64_t p = first; p < last; p++) {                                                                               \
        _Pragma("GCC ivdep") for (int64_t c = 0; c < C; c++) {                                                              \
            float u[STEPS], d[STEPS], total = 0;                                                                           \
            integrate(l, p, c, KIND, STILL, u);                                                                            \
            reverse(l, p, c, gradient, u, d);                                                                              \
            _Pragma("GCC unroll 16") for (int t = 0; t < STEPS; t++) {                                                     \
                const int64_t at = p * C + c + t * stride;                                                                 \
                const float y = get(l->y[STILL ? p * C + c : at]);                                                         \
                const float to = l->scale[c] * d[t] - slope[c] * (y - mean[c]) - offset[c];                                \
                total += to;                                                                                               \
                if (!STILL) to_y[at] = put(to);                                                                            \
                if (KIND == NORMED)                                                                                        \
                    to_shortcut[at] = put(l->shortcut_scale[c] * d[t] -                                                    \
                                          slope[C + c] * (get(l->shortcut[at]) - mean[C + c]) - offset[C + c]);            \
            }                                                                                                              \
            if (STILL) to_y[p * C + c] = put(total);                                                                       \
        }                                                                                                                  \
    }
        EACH_KIND(ROWS)
#undef ROWS
    }
}
