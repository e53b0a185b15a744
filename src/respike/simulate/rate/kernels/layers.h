/* Ways to sum the drive that spikes cause in a layer, fused with the neurons' scan over the steps of a chunk; and units without
 * neurons: max-pools of spikes, and the output's summed current. */
#include "lists.h"
#include "neuron.h"

#define BLOCK 4
#define TOGETHER 8            /* steps of which `scattered` holds the drive, ... */
#define TOGETHER_BYTES (1 << 19) /* ... if it is no larger than this */

enum { ROWS, WINDOWS, CONV, EACH };
enum { FIRES, COUNTING_MAX, GATED_MAX, SUMMED_CURRENT };

typedef struct {
    int32_t kind, sources; /* sources: its neurons, padded */
    int32_t vectors;       /* CONV: channels that a spike reaches at one place, in vectors */
    int32_t maps, kernel_height, kernel_width, padded; /* WINDOWS: of its input; rows of `padded` bits */
    int32_t out_height, out_width;
    int32_t across, step_y, step_x, pad_y, pad_x, height, width, pitch, depth, units; /* CONV, for `gather`: see there */
    const void *weights;    /* ROWS: blocks of neurons, in each (sources, block) weight_t; WINDOWS: (map, row, pattern,
                               channels) int32; CONV: (map, tap, vectors) weight_t; EACH: int32, one per target */
    const int32_t *place;   /* CONV (sources): the source's targets are first[place] .. first[place + 1]; max-pool: its input */
    const int32_t *map;     /* CONV (sources): first weight of its input map; WINDOWS: row and bit of the source */
    const int32_t *shift;   /* CONV with groups (sources): first channel reached; else NULL */
    const int32_t *table;   /* CONV, for `gather`, or NULL */
    const int32_t *first, *target, *tap; /* CONV: first neuron reached, and offset of the weights that reach it; EACH (sources + 1):
                                            the neurons reached; max-pool (inputs + 1): the windows of an input */
} synapse_t;

typedef struct {
    neuron_t neuron;
    int32_t unit, neurons, channels, drop_first, synapses, inputs; /* neurons: padded; channels: padded width of one position */
    const synapse_t *synapse;
    const sum_t *start; /* (neurons): potentials before the first step; those of padding can never reach the threshold */
    const sum_t *bias;  /* (neurons), or (images, neurons): constant drive; bias_stride is then neurons, else 0 */
    int64_t bias_stride;
} layer_t;

/* What a chunk of steps needs. state: bytes per image; stride 0: the chunk is the whole simulation, and no image's is kept. */
typedef struct {
    int32_t images, first, steps; /* first: number of the first step */
    const lists_t *in;            /* by synapse */
    lists_t *out;
    char *state;
    int64_t stride;
    char *scratch;
} chunk_t;

static inline sum_t *state_of(const chunk_t *c, int b) { return (sum_t *)(c->state + b * c->stride); }
static inline int is_dropped(const layer_t *l, const chunk_t *c, int t) { return l->drop_first && c->first + t == 0; }

static inline __attribute__((always_inline)) void add_rows(const weight_t *weights, int vectors, const uint16_t *spikes, int count, sums_t *drive) {
    for (int j = 0; j < count; j++)
        for (int k = 0; k < vectors; k++) drive[k] += load_weights(weights + ((int64_t)spikes[j] * vectors + k) * LANES);
}

static inline __attribute__((always_inline)) void rows_block(const layer_t *l, const chunk_t *c, int block, int vectors, int b, sums_t *left) {
    const sum_t *bias = l->bias + b * l->bias_stride;
    const neuron_t neuron = l->neuron; /* a copy, which stays in registers: no store can alias it */
    const list_t to = list_of(c->out, b, block >> BLOCK_BITS);
    sum_t *kept = state_of(c, b) + block, *kept_waiting = kept + l->neurons;
    sums_t v[BLOCK], waiting[BLOCK], drive[BLOCK];
    for (int k = 0; k < vectors; k++) {
        v[k] = load((c->first ? kept : l->start + block) + k * LANES);
        waiting[k] = c->first ? load(kept_waiting + k * LANES) : (sums_t){0};
    }
    const list_t alone = l->synapses == 1 && c->in->blocks == 1 ? list_of(c->in, b, 0) : (list_t){0};
    const weight_t *own = l->synapses ? (const weight_t *)l->synapse->weights + (int64_t)block * l->synapse->sources : 0;
    const int synapses = l->synapses, steps = c->steps, dropped_first = is_dropped(l, c, 0);
    for (int t = 0; t < steps; t++) {
        const int dropped = dropped_first && t == 0;
        for (int k = 0; k < vectors; k++) drive[k] = dropped ? (sums_t){0} : load(bias + block + k * LANES);
        if (alone.spikes && !dropped) add_rows(own, vectors, spikes_at(&alone, t), alone.count[t], drive);
        else for (int i = 0; i < (dropped ? 0 : synapses); i++) {
            const synapse_t *s = l->synapse + i;
            const weight_t *weights = (const weight_t *)s->weights + (int64_t)block * s->sources;
            for (int part = 0; part < c->in[i].blocks; part++, weights += (int64_t)vectors * LANES << BLOCK_BITS) {
                const list_t in = list_of(c->in + i, b, part);
                add_rows(weights, vectors, spikes_at(&in, t), in.count[t], drive);
            }
        }
        int found = to.count[t];
        for (int k = 0; k < vectors; k++)
            found += step(&neuron, drive[k], v + k, waiting + k, left, block + k * LANES, to.spikes + t * to.room + found);
        to.count[t] = found;
    }
    for (int k = 0; k < vectors; k++) store(kept + k * LANES, v[k]), store(kept_waiting + k * LANES, waiting[k]);
}

/* Dense synapses: the weights of a block of neurons stay in the cache for a group of images. */
static __attribute__((noinline)) void rows(const layer_t *l, const chunk_t *c, sums_t *left) {
    for (int block = 0; block < l->neurons;) {
        int vectors = (l->neurons - block) / LANES >= BLOCK ? BLOCK : 1;
        for (int b = 0; b < c->images; b++)
            if (vectors == BLOCK) rows_block(l, c, block, BLOCK, b, left);
            else rows_block(l, c, block, 1, b, left);
        block += vectors * LANES;
    }
}

/* All steps of the neurons at one place of a convolution. Each of the `rows` rows of its window is a bit pattern, whose sum of
 * weights is read from a table. */
static inline __attribute__((always_inline)) void window(const neuron_t *n, int rows, int steps, const uint8_t *code, int size, int across,
                                                         const int32_t *table, int stride, int codes, int dropped, sums_t bias, sums_t *kept, sums_t *kept_waiting,
                                                         sums_t *left, int number, const list_t to) {
    const neuron_t neuron = *n;
    sums_t v = *kept, waiting = *kept_waiting, passed = {0};
    for (int t = 0; t < steps; t++, code += size) {
        sums_t drive = bias;
        for (int r = 0; r < rows; r++) drive += load_sums(table + (int64_t)(r * codes + code[r * across]) * stride);
        if (t < dropped) drive = (sums_t){0};
        int found = to.count[t];
        to.count[t] = found + step(&neuron, drive, &v, &waiting, &passed, number, to.spikes + t * to.room + found);
    }
    *kept = v, *kept_waiting = waiting, *left |= passed;
}

/* The same for several input maps. */
static void maps_window(const neuron_t *n, const synapse_t *s, int steps, const uint8_t *code, int size, const int32_t *table, int stride, int codes, int dropped,
                        sums_t bias, sums_t *kept, sums_t *kept_waiting, sums_t *left, int number, const list_t to) {
    sums_t v = *kept, waiting = *kept_waiting;
    for (int t = 0; t < steps; t++, code += size) {
        sums_t drive = bias;
        for (int m = 0; m < s->maps; m++)
            for (int r = 0; r < s->kernel_height; r++)
                drive += load_sums(table + (int64_t)((m * s->kernel_height + r) * codes + code[(m * s->padded + r) * s->out_width]) * stride);
        if (t < dropped) drive = (sums_t){0};
        to.count[t] += step(n, drive, &v, &waiting, left, number, to.spikes + t * to.room + to.count[t]);
    }
    *kept = v, *kept_waiting = waiting;
}

/* A convolution of few input maps. Scratch: (lines + 1) rows of 64 bits, then patterns (steps + 1, map and line, place). */
static __attribute__((noinline)) void windows(const layer_t *l, const chunk_t *c, sums_t *left) {
    const synapse_t s = *l->synapse;
    const int lines = s.maps * s.padded, across = s.out_width, size = lines * across, codes = 1 << s.kernel_width, stride = l->channels, steps = c->steps;
    const int32_t *table = s.weights;
    const int dropped = is_dropped(l, c, 0);
    uint64_t *bits = (uint64_t *)c->scratch;
    uint8_t *patterns = (uint8_t *)(bits + lines + 1);
    for (int b = 0; b < c->images; b++) {
        uint8_t *to = patterns;
        for (int t = 0; t < steps; t++) {
            memset(bits, 0, (lines + 1) * sizeof *bits); /* the last line is for sources outside the pool's windows */
            for (int part = 0; part < c->in->blocks; part++) {
                const list_t in = list_of(c->in, b, part);
                const int32_t *map = s.map + ((int64_t)part << BLOCK_BITS);
                const uint16_t *spikes = spikes_at(&in, t);
                for (int j = 0; j < in.count[t]; j++) bits[map[spikes[j]] >> 6] |= 1ULL << (map[spikes[j]] & 63);
            }
            for (int y = 0; y < lines; y++)
                for (int x = 0; x < across; x++) *to++ = (uint8_t)(bits[y] >> x & (codes - 1));
        }
        uint8_t *seen = to; /* by line and place, whether any step has a spike there */
        memcpy(seen, patterns, size);
        for (int t = 1; t < steps; t++)
            for (int i = 0; i < size; i++) seen[i] |= patterns[(int64_t)t * size + i];
        for (int at = 0; at < s.out_height * across; at++) {
            int driven = c->stride != 0; /* potentials that are kept are computed even if nothing fires */
            for (int m = 0; m < s.maps; m++)
                for (int r = 0; r < s.kernel_height; r++) driven |= seen[(m * s.padded + r) * across + at];
            for (int ch = 0; ch < stride; ch += LANES) {
                const int number = at * stride + ch;
                const uint8_t *code = patterns + at; /* line y, place x: at = y * across + x */
                const sums_t bias = load(l->bias + b * l->bias_stride + number), start = load(l->start + number);
                if (!driven && !lanes((bias > 0) | (start >= l->neuron.fires_at))) continue; /* they never fire */
                sum_t *kept = state_of(c, b) + number, *kept_waiting = kept + l->neurons;
                sums_t v = c->first ? load(kept) : start, waiting = c->first ? load(kept_waiting) : (sums_t){0};
                const list_t out = list_of(c->out, b, number >> BLOCK_BITS);
                if (s.maps == 1 && s.kernel_height == 5 && stride == LANES) window(&l->neuron, 5, steps, code, size, across, table, LANES, codes, dropped, bias, &v, &waiting, left, number, out);
                else if (s.maps == 1 && s.kernel_height == 3) window(&l->neuron, 3, steps, code, size, across, table + ch, stride, codes, dropped, bias, &v, &waiting, left, number, out);
                else if (s.maps == 1) window(&l->neuron, s.kernel_height, steps, code, size, across, table + ch, stride, codes, dropped, bias, &v, &waiting, left, number, out);
                else maps_window(&l->neuron, &s, steps, code, size, table + ch, stride, codes, dropped, bias, &v, &waiting, left, number, out);
                store(kept, v), store(kept_waiting, waiting);
            }
        }
    }
}

#ifndef WIDE
#include "gather.h"
#endif

static inline __attribute__((always_inline)) void taps(const synapse_t *s, int vectors, int base, const uint16_t *spikes, int count, sum_t *drive) {
    const weight_t *weights = s->weights;
    const int32_t *place = s->place + base, *map = s->map + base, *first = s->first, *target = s->target, *tap = s->tap;
    const int32_t *shift = s->shift ? s->shift + base : 0;
    for (int j = 0; j < count; j++) {
        const weight_t *rows = weights + map[spikes[j]];
        sum_t *to = drive + (shift ? shift[spikes[j]] : 0);
        const int end = first[place[spikes[j]] + 1];
        for (int k = first[place[spikes[j]]]; k < end; k++) {
            sum_t *d = to + target[k];
            const weight_t *w = rows + tap[k];
            for (int c = 0; c < vectors; c++) store(d + c * LANES, load(d + c * LANES) + load_weights(w + c * LANES));
        }
    }
}

static void row_by_row(const synapse_t *s, int neurons, int base, const uint16_t *spikes, int count, sum_t *drive) {
    const int whole = neurons / (BLOCK * LANES) * BLOCK * LANES;
    for (int j = 0; j < count; j++)
        for (int i = 0; i < neurons; i += LANES) {
            const int wide = i < whole ? BLOCK * LANES : LANES, block = i / wide * wide;
            const weight_t *w = (const weight_t *)s->weights + (int64_t)block * s->sources + (int64_t)(base + spikes[j]) * wide + i - block;
            store(drive + i, load(drive + i) + load_weights(w));
        }
}

static void each(const synapse_t *s, int base, const uint16_t *spikes, int count, sum_t *drive) {
    const int32_t *first = s->first + base, *target = s->target, *weights = s->weights;
    for (int j = 0; j < count; j++)
        for (int k = first[spikes[j]], end = first[spikes[j] + 1]; k < end; k++) drive[target[k]] += weights[k];
}

static __attribute__((noinline)) void scatter(const layer_t *l, const synapse_t *s, int base, const uint16_t *spikes, int count, sum_t *drive, int32_t *places) {
#ifndef WIDE
    if (s->kind == CONV && is_gathered(s, count)) {
        gather(s, l->channels, base, spikes, count, places, drive);
        return;
    }
#endif
    if (s->kind == ROWS) row_by_row(s, l->neurons, base, spikes, count, drive);
    else if (s->kind == EACH) each(s, base, spikes, count, drive);
    else if (s->vectors == 1) taps(s, 1, base, spikes, count, drive);
    else if (s->vectors == 2) taps(s, 2, base, spikes, count, drive);
    else if (s->vectors == 4) taps(s, 4, base, spikes, count, drive);
    else taps(s, s->vectors, base, spikes, count, drive);
}

static int steps_together(const layer_t *l) {
    const int64_t fit = TOGETHER_BYTES / ((int64_t)l->neurons * sizeof(sum_t));
    return fit < 1 ? 1 : fit > TOGETHER ? TOGETHER : (int)fit;
}

/* The drive (steps, neurons) of a layer in image b and the steps from `from` on, from the lists of spikes. */
static void drive_of(const layer_t *l, const chunk_t *c, int b, int from, int steps, sum_t *drive) {
    int32_t *places = (int32_t *)(drive + (int64_t)l->neurons * steps_together(l));
    for (int t = 0; t < steps; t++) {
        sum_t *now = drive + (int64_t)t * l->neurons;
        if (is_dropped(l, c, from + t)) {
            memset(now, 0, l->neurons * sizeof *now);
            continue;
        }
        memcpy(now, l->bias + b * l->bias_stride, l->neurons * sizeof *now);
        for (int i = 0; i < l->synapses; i++)
            for (int part = 0; part < c->in[i].blocks; part++) {
                const list_t in = list_of(c->in + i, b, part);
                scatter(l, l->synapse + i, part << BLOCK_BITS, spikes_at(&in, from + t), in.count[from + t], now, places);
            }
    }
}

/* Neurons whose drive is already summed: drive (steps, neurons) of image b from step `from` of the chunk on. */
static __attribute__((noinline)) void scan(const layer_t *l, const chunk_t *c, int b, int from, int steps, const sum_t *drive, sums_t *left) {
    const neuron_t neuron = l->neuron;
    const int neurons = l->neurons, begins = c->first + from == 0;
    sum_t *kept = state_of(c, b), *kept_waiting = kept + neurons;
    sums_t passed = {0};
    for (int i = 0; i < neurons; i += LANES) {
        const list_t to = list_of(c->out, b, i >> BLOCK_BITS);
        sums_t v = load(begins ? l->start + i : kept + i), waiting = {0};
        if (neuron.blocked && !begins) waiting = load(kept_waiting + i);
        for (int t = 0; t < steps; t++) {
            const int found = to.count[from + t];
            to.count[from + t] = found + step(&neuron, load(drive + (int64_t)t * neurons + i), &v, &waiting, &passed, i, spikes_at(&to, from + t) + found);
        }
        store(kept + i, v);
        if (neuron.blocked) store(kept_waiting + i, waiting);
    }
    *left |= passed;
}

/* Any other layer of neurons: first its drive in a few steps, then its neurons in these steps. Scratch: the drive. */
static void scattered(const layer_t *l, const chunk_t *c, sums_t *left) {
    const int together = steps_together(l);
    sum_t *drive = (sum_t *)c->scratch;
    for (int b = 0; b < c->images; b++)
        for (int from = 0; from < c->steps; from += together) {
            const int steps = c->steps - from < together ? c->steps - from : together;
            drive_of(l, c, b, from, steps, drive);
            scan(l, c, b, from, steps, drive, left);
        }
}

/* A max-pool of spikes. Its state: the spikes of each input so far, the largest number of each window, and, gated, the first input
 * that has it. A window's largest number grows by at most one a step, when its first input reaches the next number. Scratch: one
 * bit per window, of those that spike in a step, which puts them in order. */
static void maxima(const layer_t *l, const chunk_t *c) {
    const int gated = l->unit == GATED_MAX, words = (l->neurons + 63) / 64;
    uint64_t *spiking = (uint64_t *)c->scratch;
    memset(spiking, 0, words * sizeof *spiking);
    for (int b = 0; b < c->images; b++) {
        int32_t *counts = (int32_t *)state_of(c, b), *largest = counts + l->inputs, *winner = largest + l->neurons;
        if (!c->first) memset(counts, 0, (l->inputs + l->neurons * 2) * sizeof *counts);
        for (int t = 0; t < c->steps; t++) {
            if (is_dropped(l, c, t)) continue;
            for (int pass = 0; pass <= gated; pass++) /* gated: first who wins, then who passes */
                for (int i = 0; i < l->synapses; i++)
                    for (int part = 0; part < c->in[i].blocks; part++) {
                        const synapse_t *s = l->synapse + i;
                        const list_t in = list_of(c->in + i, b, part);
                        const uint16_t *spikes = spikes_at(&in, t);
                        const int32_t *place = s->place + ((int64_t)part << BLOCK_BITS);
                        for (int j = 0; j < in.count[t]; j++) {
                            const int input = place[spikes[j]];
                            const int32_t n = pass ? counts[input] : ++counts[input];
                            for (int k = s->first[input]; k < s->first[input + 1]; k++) {
                                const int w = s->target[k];
                                if (!pass) {
                                    if (n < largest[w] || (n == largest[w] && (!gated || input > winner[w]))) continue;
                                    largest[w] = n, winner[w] = input;
                                    if (gated) continue;
                                } else if (winner[w] != input) continue;
                                spiking[w >> 6] |= 1ULL << (w & 63);
                            }
                        }
                    }
            for (int i = 0; i < words; i++)
                for (; spiking[i]; spiking[i] &= spiking[i] - 1) {
                    const list_t to = list_of(c->out, b, i >> (BLOCK_BITS - 6));
                    spikes_at(&to, t)[to.count[t]++] = (uint16_t)(i * 64 + __builtin_ctzll(spiking[i]));
                }
        }
    }
}

/* The output read by its current: sums in the state (images, neurons), and the class with the largest one after each step.
 * number (classes): of the neuron of each class; predicted (steps, images, by `stride`). The first `unread` steps of the chunk
 * are left out of the sums, and have the class -1. */
static void summed_current(const layer_t *l, const chunk_t *c, int classes, int unread, const int32_t *number, int16_t *predicted, int64_t stride, double *counts, sums_t *left) {
    sum_t *drive = (sum_t *)c->scratch;
    for (int b = 0; b < c->images; b++) {
        sum_t *sums = state_of(c, b);
        if (!c->first) memset(sums, 0, l->neurons * sizeof *sums);
        for (int t = 0; t < c->steps; t++) {
            if (t < unread) {
                predicted[t * stride + b] = -1;
                continue;
            }
            drive_of(l, c, b, t, 1, drive);
            for (int i = 0; i < l->neurons; i += LANES) {
                const sums_t now = load(sums + i) + load(drive + i);
                if (l->neuron.guard) *left |= (now > l->neuron.guard) | (now < -l->neuron.guard);
                store(sums + i, now);
            }
            int best = 0;
            for (int k = 1; k < classes; k++) if (sums[number[k]] > sums[number[best]]) best = k;
            predicted[t * stride + b] = (int16_t)best;
        }
        for (int k = 0; k < classes; k++) counts[(int64_t)b * classes + k] = (double)sums[number[k]];
    }
}
