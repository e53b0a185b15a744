/* The ways to sum what spikes bring to a layer, each joined to the scan of its neurons over all steps. */
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
    const sum_t *start; /* (neurons): first potentials, those of padding out of reach */
    const sum_t *bias;  /* (neurons), or (images, neurons): constant drive; bias_stride is then neurons, else 0 */
    int64_t bias_stride;
} layer_t;

typedef struct { uint16_t *spikes; int32_t *count; int64_t room; } list_t; /* (steps, room), (steps) */

static inline const uint16_t *spikes_at(const list_t *l, int t) { return l->spikes + t * l->room; }

static inline __attribute__((always_inline)) void rows_block(const layer_t *l, int block, int vectors, int b, int images, int steps, const list_t *lists, list_t *out) {
    const sum_t *bias = l->bias + b * l->bias_stride;
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
            for (int j = 0; j < in->count[t]; j++)
                for (int k = 0; k < vectors; k++) drive[k] += load_weights(weights + ((int64_t)spikes[j] * vectors + k) * LANES);
        }
        for (int k = 0; k < vectors; k++)
            out[b].count[t] += step(&l->neuron, drive[k], v + k, waiting + k, block + k * LANES, out[b].spikes + t * out[b].room + out[b].count[t]);
    }
}

/* Dense synapses: a block of neurons keeps its weights in the cache for a group of images. */
static __attribute__((noinline)) void rows(const layer_t *l, int n, int images, int steps, const list_t *lists, list_t *out) {
    for (int block = 0; block < l->neurons;) {
        int vectors = (l->neurons - block) / LANES >= BLOCK ? BLOCK : 1;
        for (int b = 0; b < n; b++)
            if (vectors == BLOCK) rows_block(l, block, BLOCK, b, images, steps, lists, out);
            else rows_block(l, block, 1, b, images, steps, lists, out);
        block += vectors * LANES;
    }
}

/* A convolution of few input maps: each row of a window is a pattern of bits whose sum of weights is at hand. */
static __attribute__((noinline)) void windows(const layer_t *l, int n, int images, int steps, const list_t *lists, list_t *out, uint64_t *bits, uint8_t *patterns) {
    const synapse_t *s = l->synapse;
    const list_t *in = lists + s->source * images;
    const int lines = s->maps * s->padded, size = lines * s->out_width, codes = 1 << s->kernel_width;
    const int32_t *table = s->weights;
    for (int b = 0; b < n; b++) {
        for (int t = 0; t < steps; t++) {
            memset(bits, 0, (lines + 1) * sizeof *bits); /* the last line is for sources that a pool left over */
            const uint16_t *spikes = spikes_at(in + b, t);
            for (int j = 0; j < in[b].count[t]; j++) bits[s->map[spikes[j]] >> 6] |= 1ULL << (s->map[spikes[j]] & 63);
            uint8_t *to = patterns + (int64_t)t * size;
            for (int y = 0; y < lines; y++)
                for (int x = 0; x < s->out_width; x++) *to++ = (uint8_t)(bits[y] >> x & (codes - 1));
        }
        for (int at = 0; at < s->out_height * s->out_width; at++)
            for (int c = 0; c < l->channels; c += LANES) {
                const int number = at * l->channels + c, y = at / s->out_width, x = at % s->out_width;
                const sums_t bias = load(l->bias + b * l->bias_stride + number);
                sums_t v = load(l->start + number), waiting = {0};
                for (int t = 0; t < steps; t++) {
                    sums_t drive = bias;
                    for (int m = 0; m < s->maps; m++) {
                        const uint8_t *code = patterns + (int64_t)t * size + (m * s->padded + y) * s->out_width + x;
                        for (int ky = 0; ky < s->kernel_height; ky++)
                            drive += load_sums(table + ((int64_t)(m * s->kernel_height + ky) * codes + code[ky * s->out_width]) * l->channels + c);
                    }
                    if (l->drop_first && t == 0) drive = (sums_t){0};
                    out[b].count[t] += step(&l->neuron, drive, &v, &waiting, number, out[b].spikes + t * out[b].room + out[b].count[t]);
                }
            }
    }
}

static __attribute__((noinline)) void scatter(const layer_t *l, const synapse_t *s, const uint16_t *spikes, int count, sum_t *drive) {
    const weight_t *weights = s->weights;
    for (int j = 0; j < count; j++) {
        if (s->kind == ROWS) {
            for (int i = 0; i < l->neurons; i += LANES) {
                int whole = l->neurons / (BLOCK * LANES) * BLOCK * LANES, block = i < whole ? i / (BLOCK * LANES) * BLOCK * LANES : i;
                int wide = i < whole ? BLOCK * LANES : LANES;
                store(drive + i, load(drive + i) + load_weights(weights + (int64_t)block * s->sources + (int64_t)spikes[j] * wide + i - block));
            }
            continue;
        }
        const int place = s->place[spikes[j]], end = s->first[place + 1];
        if (s->kind == EACH) {
            for (int k = s->first[place]; k < end; k++) drive[s->target[k]] += s->unit;
            continue;
        }
        const weight_t *map = weights + s->map[spikes[j]];
        for (int k = s->first[place]; k < end; k++)
            for (int c = 0; c < l->channels; c += LANES)
                store(drive + s->target[k] + c, load(drive + s->target[k] + c) + load_weights(map + s->tap[k] + c));
    }
}

/* Any other layer: each spike is scattered over the neurons that it reaches, then all of them step. */
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
            for (int i = 0; i < l->neurons; i += LANES)
                found += step(&l->neuron, load(drive + i), (sums_t *)(v + i), (sums_t *)(waiting + i), i, to + found);
            out[b].count[t] = found;
        }
    }
}
