/* Event-driven simulation of a chain of spiking layers on the fixed-point grid, all steps of a layer at once.
 *
 * A spike adds a row of int16 weights to int32 drives; silent neurons cost nothing. Sums of integers do not depend on
 * their order, so the spikes are those of reference.py, bit for bit. Images are independent and shared out to threads.
 * Neurons are numbered with channels last, padded to LANES; lists of spikes hold these numbers.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
#define WIDE 8 /* vectors of a dense layer that stay in registers while the spikes of a step are added */

typedef int32_t v32 __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int16_t v16 __attribute__((vector_size(2 * LANES), aligned(2)));

enum { DENSE, CONV, POOL };

typedef struct {
    int32_t kind, sources, neurons, channels; /* neurons: padded; channels: padded width of one position */
    int32_t threshold, fires_at, start, soft, blocked, drop_first, unit;
    const int16_t *weights;  /* DENSE (sources, neurons); CONV (map, tap, channels) */
    const int32_t *bias;     /* (neurons) or NULL */
    const int32_t *fan_out;  /* (sources): synapses that a spike reaches */
    const int32_t *place;    /* CONV (sources): spatial position; POOL: the source itself */
    const int32_t *map;      /* CONV (sources): first weight of its input map */
    const int32_t *first;    /* CONV, POOL (places + 1): its targets are first[p] .. first[p + 1] */
    const int32_t *target;   /* first neuron that the tap, or the one neuron that the pool, reaches */
    const int32_t *tap;      /* CONV: offset of the tap's weights */
} layer_t;

typedef struct { uint16_t *spikes; int32_t *count; int64_t room; } list_t; /* (steps, room), (steps) */

static inline v32 load32(const int32_t *p) { v32 x; memcpy(&x, p, sizeof x); return x; }
#ifdef __AVX512F__ /* one instruction, where gcc makes five of the conversion below */
static inline v32 load16(const int16_t *p) { return (v32)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
#else
static inline v32 load16(const int16_t *p) { v16 x; memcpy(&x, p, sizeof x); return __builtin_convertvector(x, v32); }
#endif
static inline void store32(int32_t *p, v32 x) { memcpy(p, &x, sizeof x); }

/* Charge, fire, reset n neurons from number `base` on (a multiple of LANES); appends to the step's list. */
static void scan(const layer_t *l, int32_t *v, int32_t *waiting, const int32_t *drive, int n, int base, uint16_t *spikes, int32_t *count) {
    int32_t found = *count;
    for (int i = 0; i < n; i += LANES) {
        v32 d = load32(drive + i), x = load32(v + i), fired;
        if (l->blocked) {
            v32 w = load32(waiting + i), free = w <= 0;
            x += d & free;
            fired = (x >= l->fires_at) & free;
            store32(waiting + i, ((w - 1) & ~fired) | (l->blocked & fired));
        } else {
            x += d;
            fired = x >= l->fires_at;
        }
        store32(v + i, l->soft ? x - (l->threshold & fired) : x & ~fired);
#ifdef __AVX512F__
        uint32_t mask = _mm512_movepi32_mask((__m512i)fired);
#else
        uint32_t mask = 0;
        for (int k = 0; k < LANES; k++) mask |= (uint32_t)(fired[k] & 1) << k;
#endif
        for (; mask; mask &= mask - 1) spikes[found++] = (uint16_t)(base + i + __builtin_ctz(mask));
    }
    *count = found;
}

static inline __attribute__((always_inline)) void sum_rows(const layer_t *l, int block, int vectors, const uint16_t *s, int n, int32_t *drive) {
    v32 sum[WIDE];
    for (int k = 0; k < vectors; k++) sum[k] = l->bias ? load32(l->bias + block + k * LANES) : (v32){0};
    for (int j = 0; j < n; j++) {
        const int16_t *row = l->weights + (int64_t)s[j] * l->neurons + block;
        for (int k = 0; k < vectors; k++) sum[k] += load16(row + k * LANES);
    }
    for (int k = 0; k < vectors; k++) store32(drive + k * LANES, sum[k]);
}

/* A dense layer for a group of images: a block of neurons keeps its weights in the cache for all of them. */
static void dense(const layer_t *l, int images, int steps, const list_t *in, list_t *out, int32_t *v, int32_t *waiting) {
    int32_t drive[WIDE * LANES];
    for (int block = 0; block < l->neurons;) {
        int vectors = (l->neurons - block) / LANES >= WIDE ? WIDE : 1, n = vectors * LANES;
        for (int b = 0; b < images; b++) {
            for (int i = 0; i < n; i++) v[i] = l->start, waiting[i] = 0;
            for (int t = 0; t < steps; t++) {
                if (l->drop_first && t == 0) memset(drive, 0, sizeof drive);
                else if (vectors == WIDE) sum_rows(l, block, WIDE, in[b].spikes + t * in[b].room, in[b].count[t], drive);
                else sum_rows(l, block, 1, in[b].spikes + t * in[b].room, in[b].count[t], drive);
                scan(l, v, waiting, drive, n, block, out[b].spikes + t * out[b].room, out[b].count + t);
            }
        }
        block += n;
    }
}

/* Convolutions and pools: each spike is scattered over the positions that see it. */
static void scattered(const layer_t *l, int images, int steps, const list_t *in, list_t *out, int32_t *v, int32_t *waiting, int32_t *drive) {
    for (int b = 0; b < images; b++) {
        for (int i = 0; i < l->neurons; i++) v[i] = l->start, waiting[i] = 0;
        for (int t = 0; t < steps; t++) {
            int dropped = l->drop_first && t == 0;
            if (l->bias && !dropped) memcpy(drive, l->bias, 4 * (size_t)l->neurons);
            else memset(drive, 0, 4 * (size_t)l->neurons);
            const uint16_t *s = in[b].spikes + t * in[b].room;
            for (int j = 0; j < (dropped ? 0 : in[b].count[t]); j++) {
                int place = l->place[s[j]];
                if (l->kind == POOL) {
                    for (int k = l->first[place]; k < l->first[place + 1]; k++) drive[l->target[k]] += l->unit;
                    continue;
                }
                const int16_t *map = l->weights + l->map[s[j]];
                for (int k = l->first[place]; k < l->first[place + 1]; k++) {
                    int32_t *d = drive + l->target[k];
                    const int16_t *w = map + l->tap[k];
                    for (int c = 0; c < l->channels; c += LANES) store32(d + c, load32(d + c) + load16(w + c));
                }
            }
            scan(l, v, waiting, drive, l->neurons, 0, out[b].spikes + t * out[b].room, out[b].count + t);
        }
    }
}

static inline uint32_t hash32(uint32_t x) { /* lowbias32, as in neurons/encode.py */
    x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU; x ^= x >> 16;
    return x;
}

/* Random input spikes of one image: limits (pixels) of 2^24, two keys; `seen` and `low` hold (pixels) entries. */
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

static void tally(const layer_t *reader, const list_t *list, int steps, int64_t *spikes, int64_t *synops) {
    for (int t = 0; t < steps; t++) {
        spikes[t] += list->count[t];
        if (!reader || (reader->drop_first && t == 0)) continue;
        int64_t sum = 0;
        for (int j = 0; j < list->count[t]; j++) sum += reader->fan_out[list->spikes[t * list->room + j]];
        synops[t] += sum;
    }
}

/* Bytes of scratch that one thread needs for `group` images. */
int64_t events_scratch(const layer_t *layers, int count, int pixels, int steps, int group) {
    int64_t widest = pixels, rooms = pixels + LANES;
    for (int i = 0; i < count; i++) {
        rooms += layers[i].neurons + LANES;
        if (layers[i].neurons > widest) widest = layers[i].neurons;
    }
    return group * steps * (rooms * 2 + (count + 1) * 4) + group * (count + 1) * (int64_t)sizeof(list_t) + 3 * 4 * (widest + LANES) + 6 * (int64_t)pixels + 4096;
}

/* Simulate `images` images on one thread. limits (images, pixels), keys (images, 2) -> predicted (steps, images, by
 * `stride`), counts (images, classes), spikes (count + 1, steps) and synops (count, steps), added to. */
void events_run(const layer_t *layers, int count, int pixels, int steps, int images, int group, const int32_t *limits,
                const uint32_t *keys, int classes, const int32_t *class_of, int16_t *predicted, int64_t stride,
                int32_t *counts, int64_t *spikes, int64_t *synops, char *scratch) {
    int64_t widest = pixels;
    for (int i = 0; i < count; i++) if (layers[i].neurons > widest) widest = layers[i].neurons;
    list_t *lists = (list_t *)scratch;
    int32_t *v = (int32_t *)(lists + (int64_t)group * (count + 1)), *waiting = v + widest + LANES, *drive = waiting + widest + LANES;
    uint32_t *low = (uint32_t *)(drive + widest + LANES);
    int32_t *numbers = (int32_t *)(low + pixels);
    uint16_t *seen = (uint16_t *)(numbers + (int64_t)group * (count + 1) * steps), *space = seen + pixels;
    for (int i = 0; i <= count; i++)
        for (int b = 0; b < group; b++) {
            list_t *list = lists + i * group + b;
            list->room = i ? layers[i - 1].neurons + LANES : pixels + LANES;
            list->spikes = space, space += list->room * steps;
            list->count = numbers, numbers += steps;
        }
    for (int from = 0; from < images; from += group) {
        int n = images - from < group ? images - from : group;
        for (int i = 0; i <= count; i++)
            for (int b = 0; b < n; b++) memset(lists[i * group + b].count, 0, 4 * (size_t)steps);
        for (int b = 0; b < n; b++)
            encode(limits + (int64_t)(from + b) * pixels, pixels, keys[2 * (from + b)], keys[2 * (from + b) + 1], steps, lists + b, seen, low);
        for (int i = 0; i < count; i++) {
            const list_t *in = lists + i * group;
            list_t *out = lists + (i + 1) * group;
            if (layers[i].kind == DENSE) dense(layers + i, n, steps, in, out, v, waiting);
            else scattered(layers + i, n, steps, in, out, v, waiting, drive);
        }
        for (int i = 0; i <= count; i++)
            for (int b = 0; b < n; b++)
                tally(i < count ? layers + i : NULL, lists + i * group + b, steps, spikes + i * steps, synops + i * steps);
        for (int b = 0; b < n; b++) {
            const list_t *list = lists + count * group + b;
            int32_t *seen_of = counts + (int64_t)(from + b) * classes;
            for (int t = 0; t < steps; t++) {
                for (int j = 0; j < list->count[t]; j++) seen_of[class_of[list->spikes[t * list->room + j]]]++;
                int best = 0;
                for (int c = 1; c < classes; c++) if (seen_of[c] > seen_of[best]) best = c;
                predicted[t * stride + from + b] = (int16_t)best;
            }
        }
    }
}
