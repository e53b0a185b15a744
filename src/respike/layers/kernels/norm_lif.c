/* tdBN, the sum with a shortcut, and LIF over T steps, forward and backward. layers/norm_neuron.py does the same in PyTorch.
 *
 * Tensors are y[t][p][c], of type REAL, channels last; p runs over images and pixels. The current of a channel is
 * z = scale y + shift, plus the shortcut unchanged (SPIKES) or normalized by its scale and shift (NORMED). The backward pass
 * computes the potentials again, because arithmetic costs less than memory.
 * Built with -DSTEPS=T, -DBF16 for bfloat16 numbers, one of -DRECTANGLE, -DTRIANGLE, -DSIGMOID, -DATAN, -DSOFT for a soft reset,
 * -DDETACH for no gradient through the reset, and -ffp-contract=off, so that both passes compute the same spikes.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define FLUSH 64 /* rows summed in float32 before the sum is added in float64 */

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

/* places: images times pixels; kind: enum shortcut; constant: y has one step and is constant over time; the vectors of the norms
 * are (channels). */
typedef struct {
    int64_t places, channels, kind, constant, threads;
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

/* The potential after the reset. */
static inline float after_reset(float u, float v_th) {
#ifdef SOFT
    return u > v_th ? u - v_th : u;
#else
    return u > v_th ? 0.0f : u;
#endif
}

/* Potentials u[t] of channel c at place p. */
INLINE void integrate(const Layer *l, int64_t p, int64_t c, enum shortcut kind, int constant, float *u) {
    const int64_t stride = l->places * l->channels, at = p * l->channels + c;
    float before = 0;
#pragma GCC unroll 16
    for (int t = 0; t < STEPS; t++) {
        float z = get(l->y[at + (constant ? 0 : t * stride)]) * l->scale[c] + l->shift[c];
        if (kind == SPIKES) z += get(l->shortcut[at + t * stride]);
        if (kind == NORMED) z += get(l->shortcut[at + t * stride]) * l->shortcut_scale[c] + l->shortcut_shift[c];
        u[t] = l->tau * before + z;
        before = after_reset(u[t], l->v_th);
    }
}

/* dL/du[t] from dL/do[t] (gradient), in reverse time. */
INLINE void reverse(const Layer *l, int64_t p, int64_t c, const REAL *gradient, const float *u, float *d) {
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

/* Rows [0, n) are split evenly among the threads: a thread's rows end where those of the next begin. Each thread has sums of its
 * own, so that the order of additions does not depend on timing. */
static inline int64_t first_row(int64_t n, int thread) { return n * thread / omp_get_num_threads(); }

static inline void add_to(double *sums, float *part, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        sums[i] += part[i];
        part[i] = 0;
    }
}

/* sums[thread][0][c] of y - pivot and [1][c] of its square, over rows of y; pivot (C,) is y's first row. */
void statistics(int64_t rows, int64_t channels, int64_t threads, const REAL *y, double *sums) {
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        const int64_t first = first_row(rows, thread), last = first_row(rows, thread + 1);
        float part[2 * channels], pivot[channels];
        double *total = sums + 2 * channels * thread;
        memset(part, 0, sizeof part);
        for (int64_t c = 0; c < channels; c++) pivot[c] = get(y[c]);
        for (int64_t r = first; r < last; r++) {
            const REAL *row = y + r * channels;
#pragma GCC ivdep
            for (int64_t c = 0; c < channels; c++) {
                float x = get(row[c]) - pivot[c];
                part[c] += x;
                part[channels + c] += x * x;
            }
            if ((r + 1 - first) % FLUSH == 0) add_to(total, part, 2 * channels);
        }
        add_to(total, part, 2 * channels);
    }
}

/* Each pass below is a loop over rows with a fixed kind of shortcut, so that the compiler makes one loop per kind, and a function
 * that chooses among them. They work on a copy of the Layer: the compiler would read its fields again after every store. */

INLINE void forward_rows(const Layer *l, int64_t first, int64_t last, enum shortcut kind, int constant, REAL *spikes) {
    const int64_t stride = l->places * l->channels;
    for (int64_t p = first; p < last; p++) {
        REAL *row = spikes + p * l->channels;
#pragma GCC ivdep
        for (int64_t c = 0; c < l->channels; c++) {
            float u[STEPS];
            integrate(l, p, c, kind, constant, u);
#pragma GCC unroll 16
            for (int t = 0; t < STEPS; t++) row[c + t * stride] = u[t] > l->v_th ? ONE : 0;
        }
    }
}

/* spikes[t][p][c], 0 or 1. */
void forward(const Layer *layer, REAL *spikes) {
#pragma omp parallel num_threads(layer->threads)
    {
        const Layer l = *layer;
        const int64_t first = first_row(l.places, omp_get_thread_num()), last = first_row(l.places, omp_get_thread_num() + 1);
        if (l.kind == NORMED) forward_rows(&l, first, last, NORMED, 0, spikes);
        else if (l.kind == SPIKES) forward_rows(&l, first, last, SPIKES, 0, spikes);
        else if (l.constant) forward_rows(&l, first, last, NONE, 1, spikes);
        else forward_rows(&l, first, last, NONE, 0, spikes);
    }
}

INLINE void sum_rows(const Layer *l, int64_t first, int64_t last, enum shortcut kind, int constant, const REAL *gradient,
                     const float *mean, const float *shortcut_mean, REAL *to_shortcut, double *sums) {
    const int64_t C = l->channels, stride = l->places * C;
    float part[3 * C];
    memset(part, 0, sizeof part);
    for (int64_t p = first; p < last; p++) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; c++) {
            float u[STEPS], d[STEPS], sum = 0, with_y = 0, with_shortcut = 0;
            integrate(l, p, c, kind, constant, u);
            reverse(l, p, c, gradient, u, d);
#pragma GCC unroll 16
            for (int t = 0; t < STEPS; t++) {
                const int64_t at = p * C + c + t * stride;
                sum += d[t];
                with_y += d[t] * (get(l->y[constant ? p * C + c : at]) - mean[c]);
                if (kind == NORMED) with_shortcut += d[t] * (get(l->shortcut[at]) - shortcut_mean[c]);
                if (kind == SPIKES) to_shortcut[at] = put(d[t]);
            }
            part[c] += sum;
            part[C + c] += with_y;
            if (kind == NORMED) part[2 * C + c] += with_shortcut;
        }
        if ((p + 1 - first) % FLUSH == 0) add_to(sums, part, 3 * C);
    }
    add_to(sums, part, 3 * C);
}

/* Per channel the sums of d = dL/du, of d (y - mean), and of d (shortcut - shortcut_mean), (threads, 3, C), in float64.
 * to_shortcut, if not NULL, receives d: the gradient of a shortcut of spikes. */
void backward_sums(const Layer *layer, const REAL *gradient, const float *mean, const float *shortcut_mean, REAL *to_shortcut,
                   double *sums) {
#pragma omp parallel num_threads(layer->threads)
    {
        const Layer l = *layer;
        const int thread = omp_get_thread_num();
        const int64_t first = first_row(l.places, thread), last = first_row(l.places, thread + 1);
        double *total = sums + 3 * l.channels * thread;
        if (l.kind == NORMED) sum_rows(&l, first, last, NORMED, 0, gradient, mean, shortcut_mean, to_shortcut, total);
        else if (l.kind == SPIKES) sum_rows(&l, first, last, SPIKES, 0, gradient, mean, shortcut_mean, to_shortcut, total);
        else if (l.constant) sum_rows(&l, first, last, NONE, 1, gradient, mean, shortcut_mean, to_shortcut, total);
        else sum_rows(&l, first, last, NONE, 0, gradient, mean, shortcut_mean, to_shortcut, total);
    }
}

INLINE void backward_rows(const Layer *l, int64_t first, int64_t last, enum shortcut kind, int constant, const REAL *gradient,
                          const float *mean, const float *slope, const float *offset, REAL *to_y, REAL *to_shortcut) {
    const int64_t C = l->channels, stride = l->places * C;
    for (int64_t p = first; p < last; p++) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; c++) {
            float u[STEPS], d[STEPS], total = 0;
            integrate(l, p, c, kind, constant, u);
            reverse(l, p, c, gradient, u, d);
#pragma GCC unroll 16
            for (int t = 0; t < STEPS; t++) {
                const int64_t at = p * C + c + t * stride;
                const float y = get(l->y[constant ? p * C + c : at]);
                const float to = l->scale[c] * d[t] - slope[c] * (y - mean[c]) - offset[c];
                total += to;
                if (!constant) to_y[at] = put(to);
                if (kind == NORMED)
                    to_shortcut[at] = put(l->shortcut_scale[c] * d[t] -
                                          slope[C + c] * (get(l->shortcut[at]) - mean[C + c]) - offset[C + c]);
            }
            if (constant) to_y[p * C + c] = put(total);
        }
    }
}

/* to_y = scale d - slope (y - mean) - offset, summed over time if y is constant; likewise to_shortcut if NORMED.
 * slope and offset (C,) are the gradients through tdBN's statistics; those of the shortcut follow in the same arrays. */
void backward(const Layer *layer, const REAL *gradient, const float *mean, const float *slope, const float *offset, REAL *to_y,
              REAL *to_shortcut) {
#pragma omp parallel num_threads(layer->threads)
    {
        const Layer l = *layer;
        const int64_t first = first_row(l.places, omp_get_thread_num()), last = first_row(l.places, omp_get_thread_num() + 1);
        if (l.kind == NORMED) backward_rows(&l, first, last, NORMED, 0, gradient, mean, slope, offset, to_y, to_shortcut);
        else if (l.kind == SPIKES) backward_rows(&l, first, last, SPIKES, 0, gradient, mean, slope, offset, to_y, to_shortcut);
        else if (l.constant) backward_rows(&l, first, last, NONE, 1, gradient, mean, slope, offset, to_y, to_shortcut);
        else backward_rows(&l, first, last, NONE, 0, gradient, mean, slope, offset, to_y, to_shortcut);
    }
}
