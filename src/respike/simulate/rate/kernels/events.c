/* Event-driven simulation of spiking layers on the fixed-point grid, all steps of a layer at once.
 *
 * A spike adds a row of weights to integer drives; silent neurons cost nothing. Sums of integers do not depend on their
 * order, so the spikes are those of stepwise.py, bit for bit. Images are independent and split among threads.
 * Neurons are numbered with channels last, padded to LANES; lists of spikes hold these numbers in ascending order.
 */
#include "layers.h"

static inline uint32_t hash32(uint32_t x) { /* lowbias32, as in neurons/encode.py */
    x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU; x ^= x >> 16;
    return x;
}

/* Random input spikes of one image: limits (pixels) of 2^24, two keys; `seen` and `low` have room for all pixels. */
static void encode(const int32_t *limits, int pixels, uint32_t first, uint32_t second, int steps, list_t *out, uint16_t *seen, uint32_t *low) {
    int active = 0;
    for (int p = 0; p < pixels; p++) if (limits[p] > 0) { low[active] = (uint32_t)limits[p]; seen[active++] = (uint16_t)p; }
    uint32_t draw[256];
    for (int t = 0; t < steps; t++) {
        uint16_t *spikes = out->spikes + t * out->room;
        int found = 0;
        for (int from = 0; from < active; from += 256) {
            int n = active - from < 256 ? active - from : 256;
            for (int i = 0; i < n; i++) draw[i] = hash32(hash32(((uint32_t)t * (uint32_t)pixels + seen[from + i]) ^ first) + second) >> 8;
            for (int i = 0; i < n; i++) { spikes[found] = seen[from + i]; found += draw[i] < low[from + i]; }
        }
        out->count[t] = found;
    }
}

/* Counts the spikes of a list at each step. */
static void tally(const list_t *list, int steps, int64_t *spikes) {
    for (int t = 0; t < steps; t++) spikes[t] += list->count[t];
}

/* Counts the synaptic operations that the spikes of a list cause in a layer that reads them. */
static void operations(const layer_t *reader, const synapse_t *s, const list_t *list, int steps, int64_t *synops) {
    for (int t = reader->drop_first; t < steps; t++) {
        const uint16_t *spikes = spikes_at(list, t);
        int64_t sum = 0;
        for (int j = 0; j < list->count[t]; j++) sum += s->fan_out[spikes[j]];
        synops[t] += sum;
    }
}

static void predict(const list_t *list, int steps, int classes, const int32_t *class_of, int32_t *counts, int16_t *predicted, int64_t stride) {
    for (int t = 0; t < steps; t++) {
        const uint16_t *spikes = spikes_at(list, t);
        for (int j = 0; j < list->count[t]; j++) counts[class_of[spikes[j]]]++;
        int best = 0;
        for (int c = 1; c < classes; c++) if (counts[c] > counts[best]) best = c;
        predicted[t * stride] = (int16_t)best;
    }
}

/* Scratch memory in pieces aligned to cache lines. Without memory (base NULL) it only counts the bytes. */
typedef struct {
    char *base;
    int64_t used;
} scratch_t;

static void *take(scratch_t *scratch, int64_t bytes) {
    void *piece = scratch->base + scratch->used;
    scratch->used += (bytes + 127) / 64 * 64;
    return piece;
}

typedef struct {
    list_t *lists;
    sum_t *v, *waiting, *drive;
    uint16_t *seen;
    uint32_t *low;
    uint64_t *bits;
    uint8_t *patterns;
} work_t;

static work_t lay_out(scratch_t *scratch, const layer_t *layers, int count, int pixels, int steps, int group) {
    work_t w;
    int64_t widest = 0, lines = 0, patterns = 0;
    w.lists = take(scratch, group * (count + 1) * (int64_t)sizeof(list_t));
    for (int i = 0; i <= count; i++) {
        int64_t neurons = i ? layers[i - 1].neurons : pixels;
        if (neurons > widest) widest = neurons;
        for (int b = 0; b < group; b++) {
            list_t list = {.room = neurons + LANES};
            list.spikes = take(scratch, list.room * steps * 2);
            list.count = take(scratch, steps * 4);
            if (scratch->base) w.lists[i * group + b] = list;
        }
        if (!i) continue;
        const synapse_t *s = layers[i - 1].synapse;
        if (s->kind == WINDOWS && s->maps * s->padded >= lines) lines = s->maps * s->padded + 1;
        if (s->kind == WINDOWS && s->maps * s->padded * s->out_width > patterns) patterns = s->maps * s->padded * s->out_width;
    }
    w.v = take(scratch, widest * sizeof(sum_t) + 64), w.waiting = take(scratch, widest * sizeof(sum_t) + 64);
    w.drive = take(scratch, widest * sizeof(sum_t) + 64);
    w.seen = take(scratch, pixels * 2), w.low = take(scratch, pixels * 4);
    w.bits = take(scratch, lines * 8), w.patterns = take(scratch, patterns * (steps + 1));
    return w;
}

/* Bytes of scratch memory that one thread needs for `group` images, plus 64 for the alignment. */
int64_t events_scratch(const layer_t *layers, int count, int pixels, int steps, int group) {
    scratch_t scratch = {0};
    lay_out(&scratch, layers, count, pixels, steps, group);
    return scratch.used + 64;
}

/* Simulate `images` images on one thread. limits (images, pixels), keys (images, 2) -> predicted (steps, images, by
 * `stride`), counts (images, classes), spikes (count + 1, steps) and synops (count, steps), added to. */
void events_run(const layer_t *layers, int count, int pixels, int steps, int images, int group, const int32_t *limits,
                const uint32_t *keys, int classes, const int32_t *class_of, int16_t *predicted, int64_t stride,
                int32_t *counts, int64_t *spikes, int64_t *synops, char *memory) {
    scratch_t scratch = {.base = (char *)(((uintptr_t)memory + 63) / 64 * 64)};
    work_t w = lay_out(&scratch, layers, count, pixels, steps, group);
    for (int from = 0; from < images; from += group) {
        int n = images - from < group ? images - from : group;
        for (int i = 0; i <= count; i++)
            for (int b = 0; b < n; b++) memset(w.lists[i * group + b].count, 0, 4 * (size_t)steps);
        for (int b = 0; b < n; b++)
            encode(limits + (int64_t)(from + b) * pixels, pixels, keys[2 * (from + b)], keys[2 * (from + b) + 1], steps, w.lists + b, w.seen, w.low);
        for (int i = 0; i < count; i++) {
            layer_t here = layers[i], *l = &here;
            l->bias += from * l->bias_stride;
            list_t *out = w.lists + (i + 1) * group;
            int dense = 1;
            for (int k = 0; k < l->synapses; k++) dense &= l->synapse[k].kind == ROWS;
            if (dense) rows(l, n, group, steps, w.lists, out);
            else if (l->synapse->kind == WINDOWS) windows(l, n, group, steps, w.lists, out, w.bits, w.patterns);
            else scattered(l, n, group, steps, w.lists, out, w.v, w.waiting, w.drive);
            for (int k = 0; k < l->synapses; k++)
                for (int b = 0; b < n; b++) operations(l, l->synapse + k, w.lists + l->synapse[k].source * group + b, steps, synops + i * steps);
        }
        for (int i = 0; i <= count; i++)
            for (int b = 0; b < n; b++) tally(w.lists + i * group + b, steps, spikes + i * steps);
        for (int b = 0; b < n; b++)
            predict(w.lists + count * group + b, steps, classes, class_of, counts + (int64_t)(from + b) * classes, predicted + from + b, stride);
    }
}
