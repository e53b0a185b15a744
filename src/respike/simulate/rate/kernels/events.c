/* Event-driven simulation of spiking layers on the fixed-point grid, a chunk of steps of one layer at once.
 *
 * A spike adds a row of weights to integer drives; silent neurons cost nothing. Sums of integers do not depend on their
 * order, so the spikes are those of stepwise.py, bit for bit. Images are independent; events.py splits them among threads,
 * and calls these functions layer by layer, each in the build that its sums need.
 */
#include "layers.h"

static inline uint32_t hash32(uint32_t x) { /* lowbias32, as in neurons/encode.py */
    x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU; x ^= x >> 16;
    return x;
}

/* Random input spikes. limits (images, pixels) of 2^24, two keys per image; scratch: 6 bytes for each of 65,536 pixels. */
void events_encode(const int32_t *limits, const uint32_t *keys, int pixels, int images, int from, int steps, lists_t *out, char *scratch) {
    uint32_t *low = (uint32_t *)scratch, draw[256];
    uint16_t *seen = (uint16_t *)(low + (1 << BLOCK_BITS));
    for (int b = 0; b < images; b++, limits += pixels, keys += 2)
        for (int block = 0; block < out->blocks; block++) {
            const int base = block << BLOCK_BITS, size = pixels - base < 1 << BLOCK_BITS ? pixels - base : 1 << BLOCK_BITS;
            const list_t to = list_of(out, b, block);
            int active = 0;
            for (int p = 0; p < size; p++) if (limits[base + p] > 0) { low[active] = (uint32_t)limits[base + p]; seen[active++] = (uint16_t)p; }
            for (int t = 0; t < steps; t++) {
                const uint32_t first = (uint32_t)(from + t) * (uint32_t)pixels + (uint32_t)base;
                uint16_t *spikes = spikes_at(&to, t);
                int found = 0;
                for (int a = 0; a < active; a += 256) {
                    const int n = active - a < 256 ? active - a : 256;
                    for (int i = 0; i < n; i++) draw[i] = hash32(hash32((first + seen[a + i]) ^ keys[0]) + keys[1]) >> 8;
                    for (int i = 0; i < n; i++) { spikes[found] = seen[a + i]; found += draw[i] < low[a + i]; }
                }
                to.count[t] = found;
            }
        }
}

/* Adds the spikes of each step: spikes (steps). */
void events_tally(const lists_t *lists, int images, int steps, int64_t *spikes) {
    for (int b = 0; b < images; b++)
        for (int block = 0; block < lists->blocks; block++) {
            const list_t list = list_of(lists, b, block);
            for (int t = 0; t < steps; t++) spikes[t] += list.count[t];
        }
}

/* Adds the synaptic operations that spikes cause: fan_out (neurons), synops (steps). skipped: steps without any, at the start. */
void events_operations(const int32_t *fan_out, const lists_t *lists, int images, int skipped, int steps, int64_t *synops) {
    for (int b = 0; b < images; b++)
        for (int block = 0; block < lists->blocks; block++) {
            const list_t list = list_of(lists, b, block);
            const int32_t *reached = fan_out + ((int64_t)block << BLOCK_BITS);
            for (int t = skipped; t < steps; t++) {
                const uint16_t *spikes = spikes_at(&list, t);
                int64_t sum = 0;
                for (int j = 0; j < list.count[t]; j++) sum += reached[spikes[j]];
                synops[t] += sum;
            }
        }
}

/* Adds the spikes of each class: counts (images, classes), and the class with most so far: predicted (steps, images, by `stride`).
 * The first `unread` steps are left out, and have the class -1. */
void events_predict(const lists_t *lists, int images, int unread, int steps, int classes, const int32_t *class_of, int16_t *predicted, int64_t stride, int32_t *counts) {
    for (int b = 0; b < images; b++, counts += classes)
        for (int t = 0; t < steps; t++) {
            if (t < unread) {
                predicted[t * stride + b] = -1;
                continue;
            }
            for (int block = 0; block < lists->blocks; block++) {
                const list_t list = list_of(lists, b, block);
                const uint16_t *spikes = spikes_at(&list, t);
                for (int j = 0; j < list.count[t]; j++) counts[class_of[(block << BLOCK_BITS) + spikes[j]]]++;
            }
            int best = 0;
            for (int c = 1; c < classes; c++) if (counts[c] > counts[best]) best = c;
            predicted[t * stride + b] = (int16_t)best;
        }
}

/* Lists as values 0 and 1 (steps, images, neurons), by number, with `stride` values from one step to the next; and back. */
void events_unpack(const lists_t *lists, int images, int steps, int64_t neurons, int64_t stride, uint8_t *values) {
    for (int b = 0; b < images; b++)
        for (int t = 0; t < steps; t++) {
            uint8_t *to = values + t * stride + b * neurons;
            memset(to, 0, (size_t)neurons);
            for (int block = 0; block < lists->blocks; block++) {
                const list_t list = list_of(lists, b, block);
                for (int j = 0; j < list.count[t]; j++) to[(block << BLOCK_BITS) + spikes_at(&list, t)[j]] = 1;
            }
        }
}

void events_pack(const lists_t *lists, int images, int steps, int64_t neurons, int64_t stride, const uint8_t *values) {
    for (int b = 0; b < images; b++)
        for (int block = 0; block < lists->blocks; block++) {
            const list_t list = list_of(lists, b, block);
            const int64_t base = (int64_t)block << BLOCK_BITS, size = neurons - base < 1 << BLOCK_BITS ? neurons - base : 1 << BLOCK_BITS;
            for (int t = 0; t < steps; t++) {
                const uint8_t *from = values + t * stride + b * neurons + base;
                uint16_t *spikes = spikes_at(&list, t);
                int found = 0, i = 0;
                for (; i + LANES <= size; i += LANES) found += append(nonzero(from + i), i, spikes + found);
                for (; i < size; i++) if (from[i]) spikes[found++] = (uint16_t)i;
                list.count[t] = found;
            }
        }
}

/* Adds the spikes of each neuron: counts (images, neurons), by number. */
void events_count(const lists_t *lists, int images, int steps, int64_t neurons, int32_t *counts) {
    for (int b = 0; b < images; b++, counts += neurons)
        for (int block = 0; block < lists->blocks; block++) {
            const list_t list = list_of(lists, b, block);
            for (int t = 0; t < steps; t++)
                for (int j = 0; j < list.count[t]; j++) counts[(block << BLOCK_BITS) + spikes_at(&list, t)[j]]++;
        }
}

/* Bytes of scratch memory that `events_layer` needs for a chunk of so many steps. */
int64_t events_scratch(const layer_t *l, int steps) {
    if (l->synapses && l->synapse->kind == WINDOWS) {
        const int64_t lines = (int64_t)l->synapse->maps * l->synapse->padded;
        return (lines + 1) * 8 + lines * l->synapse->out_width * (steps + 1);
    }
    int64_t places = 0; /* of `gather` */
    for (int i = 0; i < l->synapses; i++)
        if (l->synapse[i].table && l->synapse[i].sources / l->synapse[i].depth > places) places = l->synapse[i].sources / l->synapse[i].depth;
    return (int64_t)l->neurons * steps_together(l) * sizeof(sum_t) + (places + 1) * 4;
}

/* Bytes of a layer's state per image. */
int64_t events_state(const layer_t *l) {
    if (l->unit == COUNTING_MAX || l->unit == GATED_MAX) return ((int64_t)l->inputs + 2 * (int64_t)l->neurons) * 4 + 64;
    return (int64_t)l->neurons * 2 * sizeof(sum_t);
}

/* The drive (images, steps, neurons) of a layer that hands it on, for plain torch to round. */
void events_drive(const layer_t *l, const chunk_t *c, sum_t *drive) {
    const int together = steps_together(l);
    for (int b = 0; b < c->images; b++)
        for (int from = 0; from < c->steps; from += together) {
            const int64_t steps = c->steps - from < together ? c->steps - from : together, values = steps * l->neurons;
            drive_of(l, c, b, from, (int)steps, (sum_t *)c->scratch);
            memcpy(drive, c->scratch, values * sizeof *drive);
            drive += values;
        }
}

/* A chunk of steps of neurons whose drive (images, steps, neurons) plain torch has computed. Returns what `events_layer` does. */
int events_neurons(const layer_t *l, const chunk_t *c, const sum_t *drive) {
    sums_t left = {0};
    memset(c->out->count, 0, sizeof(int32_t) * c->images * c->out->blocks * c->out->steps);
    for (int b = 0; b < c->images; b++) scan(l, c, b, 0, c->steps, drive + (int64_t)b * c->steps * l->neurons, &left);
    return lanes(left) != 0;
}

/* A chunk of steps of one layer. classes, unread, number, predicted, stride and counts are those of `summed_current`. Returns whether a
 * potential passed the guard: its spikes are then not valid, and the wide build must run the chunk. */
int events_layer(const layer_t *l, const chunk_t *c, int classes, int unread, const int32_t *number, int16_t *predicted, int64_t stride, double *counts) {
    sums_t left = {0};
    int dense = 1;
    for (int k = 0; k < l->synapses; k++) dense &= l->synapse[k].kind == ROWS;
    if (c->out) memset(c->out->count, 0, sizeof(int32_t) * c->images * c->out->blocks * c->out->steps);
    if (l->unit == SUMMED_CURRENT) summed_current(l, c, classes, unread, number, predicted, stride, counts, &left);
    else if (l->unit != FIRES) maxima(l, c);
    else if (dense) rows(l, c, &left);
    else if (l->synapse->kind == WINDOWS) windows(l, c, &left);
    else scattered(l, c, &left);
    return lanes(left) != 0;
}
