/* Four ways to sum the drive that spikes cause in a layer, each fused with the neurons' scan over all steps. */
#include "neuron.h"

#define BLOCK 4

enum { ROWS, WINDOWS, CONV, EACH };

typedef struct {
    int32_t kind, source, sources; /* source: which list of spikes; sources: its neurons, padded */
    int32_t unit;                  /* EACH: the weight of every connection */
    int32_t height, width, maps, kernel_height, kernel_width, padded; /* WINDOWS: of its input; rows of `padded` bits */
    int32_t out_height, out_width;
    const void *weights;    /* ROWS: blocks of neurons, in each (sources, block) weight_t; WINDOWS: (map, row, pattern,
                               channels) int32; CONV: (map, tap, channels) weight_t */
    const int32_t *fan_out; /* (sources): synapses that a spike reaches */
    const int32_t *place;   /* CONV, EACH (sources): the source's targets are first[place] .. first[place + 1] */
    const int32_t *map;     /* CONV (sources): first weight of its input map; WINDOWS: row and bit of the source */
    const int32_t *first, *target, *tap; /* targets: first neuron reached, and offset of the weights that reach it */
} synapse_t;

typedef struct {
    neuron_t neuron;
    int32_t neurons, channels, drop_first, synapses; /* neurons: padded; channels: padded width of one position */
    const synapse_t *synapse;
    const sum_t *start; /* (neurons): potentials before the first step; those of padding can never reach the threshold */
    const sum_t *bias;  /* (neurons), or (images, neurons): constant drive; bias_stride is then neurons, else 0 */
    int64_t bias_stride;
} layer_t;

typedef struct { uint16_t *spikes; int32_t *count; int64_t room; } list_t; /* (steps, room), (steps) */

static inline const uint16_t *spikes_at(const list_t *l, int t) { return l->spikes + t * l->room; }

static inline __attribute__((always_inline)) void rows_block(const layer_t *l, int block, int vectors, int b, int images, int steps, const list_t *lists, list_t *out) {
    const sum_t *bias = l->bias + b * l->bias_stride;
    const neuron_t neuron = l->neuron; /* a copy, which stays in registers: no store can alias it */
    list_t to = out[b];
    sums_t v[BLOCK], waiting[BLOCK], drive[BLOCK];
    for (int k = 0; k < vectors; k++) v[k] = load(l->start + block + k * LANES), waiting[k] = (sums_t){0};
    for (int t = 0; t < steps; t++) {
        int dropped = l->drop_first && t == 0;
        for (int k = 0; k < vectors; k++) drive[k] = dropped ? (sums_t){0} : load(bias + block + k * LANES);
        for (int i = 0; i < (dropped ? 0 : l->synapses); i++) {
            const synapse_t *s = l->synapse + i;
            const list_t *in = lists + s->source * images + b;
            const uint16_t *spikes = spikes_at(in, t);
            const weight_t *weights = (const weight_t *)s->weights + (int64_t)block * s->sources;
            const int count = in->count[t];
            for (int j = 0; j < count; j++)
                for (int k = 0; k < vectors; k++) drive[k] += load_weights(weights + ((int64_t)spikes[j] * vectors + k) * LANES);
        }
        int found = to.count[t];
        for (int k = 0; k < vectors; k++)
            found += step(&neuron, drive[k], v + k, waiting + k, block + k * LANES, to.spikes + t * to.room + found);
        to.count[t] = found;
    }
}

/* Dense synapses: the weights of a block of neurons stay in the cache for a group of images. */
static __attribute__((noinline)) void rows(const layer_t *l, int n, int images, int steps, const list_t *lists, list_t *out) {
    for (int block = 0; block < l->neurons;) {
        int vectors = (l->neurons - block) / LANES >= BLOCK ? BLOCK : 1;
        for (int b = 0; b < n; b++)
            if (vectors == BLOCK) rows_block(l, block, BLOCK, b, images, steps, lists, out);
            else rows_block(l, block, 1, b, images, steps, lists, out);
        block += vectors * LANES;
    }
}

/* All steps of the neurons at one place of a convolution. Each of the `rows` rows of its window is a bit pattern, whose sum of
 * weights is read from a table. */
static inline __attribute__((always_inline)) void window(const neuron_t *n, int rows, int steps, const uint8_t *code, int size, int across,
                                                         const int32_t *table, int stride, int codes, int dropped, sums_t bias, sums_t v, int number, const list_t *out) {
    const neuron_t neuron = *n;
    const list_t to = *out;
    sums_t waiting = {0};
    for (int t = 0; t < steps; t++, code += size) {
        sums_t drive = bias;
        for (int r = 0; r < rows; r++) drive += load_sums(table + (int64_t)(r * codes + code[r * across]) * stride);
        if (t < dropped) drive = (sums_t){0};
        int found = to.count[t];
        to.count[t] = found + step(&neuron, drive, &v, &waiting, number, to.spikes + t * to.room + found);
    }
}

/* The same for several input maps. */
static void maps_window(const neuron_t *n, const synapse_t *s, int steps, const uint8_t *code, int size, const int32_t *table, int stride, int codes, int dropped, sums_t bias, sums_t v, int number, const list_t *out) {
    sums_t waiting = {0};
    for (int t = 0; t < steps; t++, code += size) {
        sums_t drive = bias;
        for (int m = 0; m < s->maps; m++)
            for (int r = 0; r < s->kernel_height; r++)
                drive += load_sums(table + (int64_t)((m * s->kernel_height + r) * codes + code[(m * s->padded + r) * s->out_width]) * stride);
        if (t < dropped) drive = (sums_t){0};
        out->count[t] += step(n, drive, &v, &waiting, number, out->spikes + t * out->room + out->count[t]);
    }
}

/* A convolution of few input maps. Patterns: (steps, map and line, place). */
static __attribute__((noinline)) void windows(const layer_t *l, int n, int images, int steps, const list_t *lists, list_t *out, uint64_t *bits, uint8_t *patterns) {
    const synapse_t s = *l->synapse;
    const list_t *in = lists + s.source * images;
    const int lines = s.maps * s.padded, across = s.out_width, size = lines * across, codes = 1 << s.kernel_width, stride = l->channels;
    const int32_t *table = s.weights;
    for (int b = 0; b < n; b++) {
        uint8_t *to = patterns;
        for (int t = 0; t < steps; t++) {
            memset(bits, 0, (lines + 1) * sizeof *bits); /* the last line is for sources outside the pool's windows */
            const uint16_t *spikes = spikes_at(in + b, t);
            for (int j = 0; j < in[b].count[t]; j++) bits[s.map[spikes[j]] >> 6] |= 1ULL << (s.map[spikes[j]] & 63);
            for (int y = 0; y < lines; y++)
                for (int x = 0; x < across; x++) *to++ = (uint8_t)(bits[y] >> x & (codes - 1));
        }
        uint8_t *seen = to; /* by line and place, whether any step has a spike there */
        memcpy(seen, patterns, size);
        for (int t = 1; t < steps; t++)
            for (int i = 0; i < size; i++) seen[i] |= patterns[(int64_t)t * size + i];
        for (int at = 0; at < s.out_height * across; at++) {
            int driven = 0;
            for (int m = 0; m < s.maps; m++)
                for (int r = 0; r < s.kernel_height; r++) driven |= seen[(m * s.padded + r) * across + at];
            for (int c = 0; c < stride; c += LANES) {
                const int number = at * stride + c;
                const uint8_t *code = patterns + at; /* line y, place x: at = y * across + x */
                const sums_t bias = load(l->bias + b * l->bias_stride + number), start = load(l->start + number);
                if (!driven && !lanes((bias > 0) | (start >= l->neuron.fires_at))) continue; /* they never fire */
                if (s.maps == 1 && s.kernel_height == 5 && stride == LANES) window(&l->neuron, 5, steps, code, size, across, table, LANES, codes, l->drop_first, bias, start, number, out + b);
                else if (s.maps == 1 && s.kernel_height == 3) window(&l->neuron, 3, steps, code, size, across, table + c, stride, codes, l->drop_first, bias, start, number, out + b);
                else if (s.maps == 1) window(&l->neuron, s.kernel_height, steps, code, size, across, table + c, stride, codes, l->drop_first, bias, start, number, out + b);
                else maps_window(&l->neuron, &s, steps, code, size, table + c, stride, codes, l->drop_first, bias, start, number, out + b);
            }
        }
    }
}

static inline __attribute__((always_inline)) void taps(const synapse_t *s, int vectors, const uint16_t *spikes, int count, sum_t *drive) {
    const weight_t *weights = s->weights;
    const int32_t *place = s->place, *map = s->map, *first = s->first, *target = s->target, *tap = s->tap;
    for (int j = 0; j < count; j++) {
        const weight_t *rows = weights + map[spikes[j]];
        const int end = first[place[spikes[j]] + 1];
        for (int k = first[place[spikes[j]]]; k < end; k++) {
            sum_t *d = drive + target[k];
            const weight_t *w = rows + tap[k];
            for (int c = 0; c < vectors; c++) store(d + c * LANES, load(d + c * LANES) + load_weights(w + c * LANES));
        }
    }
}

static void row_by_row(const synapse_t *s, int neurons, const uint16_t *spikes, int count, sum_t *drive) {
    const int whole = neurons / (BLOCK * LANES) * BLOCK * LANES;
    for (int j = 0; j < count; j++)
        for (int i = 0; i < neurons; i += LANES) {
            const int wide = i < whole ? BLOCK * LANES : LANES, block = i / wide * wide;
            const weight_t *w = (const weight_t *)s->weights + (int64_t)block * s->sources + (int64_t)spikes[j] * wide + i - block;
            store(drive + i, load(drive + i) + load_weights(w));
        }
}

static void each(const synapse_t *s, const uint16_t *spikes, int count, sum_t *drive) {
    const int32_t *place = s->place, *first = s->first, *target = s->target;
    const sum_t unit = s->unit;
    for (int j = 0; j < count; j++)
        for (int k = first[place[spikes[j]]], end = first[place[spikes[j]] + 1]; k < end; k++) drive[target[k]] += unit;
}

static __attribute__((noinline)) void scatter(const layer_t *l, const synapse_t *s, const uint16_t *spikes, int count, sum_t *drive) {
    if (s->kind == ROWS) row_by_row(s, l->neurons, spikes, count, drive);
    else if (s->kind == EACH) each(s, spikes, count, drive);
    else if (l->channels == LANES) taps(s, 1, spikes, count, drive);
    else if (l->channels == 2 * LANES) taps(s, 2, spikes, count, drive);
    else if (l->channels == 4 * LANES) taps(s, 4, spikes, count, drive);
    else taps(s, l->channels / LANES, spikes, count, drive);
}

/* Any other layer: the weights of each spike are added to the drives of the neurons it reaches, then all neurons step. */
static __attribute__((noinline)) void scattered(const layer_t *l, int n, int images, int steps, const list_t *lists, list_t *out, sum_t *v, sum_t *waiting, sum_t *drive) {
    for (int b = 0; b < n; b++) {
        memcpy(v, l->start, l->neurons * sizeof *v);
        memset(waiting, 0, l->neurons * sizeof *waiting);
        for (int t = 0; t < steps; t++) {
            int dropped = l->drop_first && t == 0, found = 0;
            if (dropped) memset(drive, 0, l->neurons * sizeof *drive);
            else memcpy(drive, l->bias + b * l->bias_stride, l->neurons * sizeof *drive);
            for (int i = 0; i < (dropped ? 0 : l->synapses); i++) {
                const list_t *in = lists + l->synapse[i].source * images + b;
                scatter(l, l->synapse + i, spikes_at(in, t), in->count[t], drive);
            }
            uint16_t *to = out[b].spikes + t * out[b].room;
            const neuron_t neuron = l->neuron;
            for (int i = 0, neurons = l->neurons; i < neurons; i += LANES)
                found += step(&neuron, load(drive + i), (sums_t *)(v + i), (sums_t *)(waiting + i), i, to + found);
            out[b].count[t] = found;
        }
    }
}
