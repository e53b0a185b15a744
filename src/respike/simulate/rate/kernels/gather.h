/* A convolution summed output by output. `taps` adds every weight to a drive in memory. Here the weights of all spikes of a window
 * are summed in registers and added to the drive once, which is faster from a few spikes per window on.
 *
 * A word of the table holds the weights of two channels, LANES apart: the second's as its upper half, the first's + 32768 as its
 * lower half. Summing the words, and their upper halves alone, gives both sums: the first is what remains. All is modulo 2^32. */
#ifndef GATHER_FROM
#define GATHER_FROM 8 /* spikes in a window, on average */
#endif
#define GATHER_ROWS (1 << 15) /* sources in a window, at most */

typedef uint32_t words_t __attribute__((vector_size(4 * LANES), aligned(64), may_alias));
typedef uint16_t numbers_t __attribute__((vector_size(64), aligned(2), may_alias));

static inline __attribute__((always_inline)) void gather_units(const int32_t *table, int units, int stride, const uint16_t *rows, int count, int vectors, sum_t *drive) {
    words_t all[units], upper[units];
    for (int u = 0; u < units; u++) all[u] = upper[u] = (words_t){0};
    for (int j = 0; j < count; j++)
        for (int u = 0; u < units; u++) {
            const words_t w = *(const words_t *)(table + ((int64_t)rows[j] * stride + u) * LANES);
            all[u] += w, upper[u] += (words_t)((sums_t)w >> 16);
        }
    for (int u = 0; u < units; u++) {
        sum_t *first = drive + 2 * u * LANES, *second = first + LANES;
        if (2 * u < vectors) store(first, (sums_t)((words_t)load(first) + all[u] - (upper[u] << 16) - 32768 * (uint32_t)count));
        if (2 * u + 1 < vectors) store(second, (sums_t)((words_t)load(second) + upper[u]));
    }
}

/* Adds the drive of one step by a part of the spikes, whose numbers begin at `base`. first: scratch, (places of the source + 1). */
static __attribute__((noinline)) void gather(const synapse_t *s, int channels, int base, const uint16_t *spikes, int count, int32_t *first, sum_t *drive) {
    const int depth = s->depth, pitch = s->pitch, units = s->units, vectors = channels / LANES;
    const uint64_t inverse = ((1ULL << 40) + depth - 1) / depth;
    const int top = (base + spikes[0]) / depth / pitch, last = (base + spikes[count - 1]) / depth / pitch;
    const int below = last < s->height ? last + 1 : s->height;
    uint16_t rows[GATHER_ROWS + sizeof(numbers_t)];
    memset(first + top * pitch, 0, ((last + 1 - top) * pitch + 1) * sizeof *first);
    for (int j = 0; j < count; j++) first[((base + spikes[j]) * inverse >> 40) + 1] = j + 1; /* spikes up to the end of a place */
    for (int i = top * pitch, most = 0; i <= (last + 1) * pitch; i++) first[i] = most = first[i] > most ? first[i] : most;
    const int begin = top + s->pad_y - s->kernel_height + s->step_y;
    for (int y = begin > 0 ? begin / s->step_y : 0; y < s->out_height && y * s->step_y - s->pad_y < below; y++) {
        const int y0 = y * s->step_y - s->pad_y, from = y0 > top ? y0 : top, to = y0 + s->kernel_height < below ? y0 + s->kernel_height : below;
        for (int x = 0; x < s->out_width; x += s->across) {
            const int x0 = x * s->step_x - s->pad_x, left = x0 > 0 ? x0 : 0, right = x0 + s->kernel_width < s->width ? x0 + s->kernel_width : s->width;
            int found = 0;
            for (int i = from; i < to && left < right; i++) {
                const int f = first[i * pitch + left], n = first[i * pitch + right] - f;
                const uint16_t moved = (uint16_t)(base + ((i - y0) * s->kernel_width - i * pitch - x0) * depth);
                for (int j = 0; j < n; j += sizeof(numbers_t) / 2)
                    *(numbers_t *)(rows + found + j) = *(const numbers_t *)(spikes + f + j) + moved;
                found += n;
            }
            if (!found) continue;
            sum_t *to_drive = drive + ((int64_t)y * s->out_width + x) * channels;
            const int reached = (s->out_width - x < s->across ? s->out_width - x : s->across) * vectors;
            if (units == 1) gather_units(s->table, 1, 1, rows, found, reached, to_drive);
            else if (units == 2) gather_units(s->table, 2, 2, rows, found, reached, to_drive);
            else if (units == 3) gather_units(s->table, 3, 3, rows, found, reached, to_drive);
            else for (int u = 0; u < units; u += 4) gather_units(s->table + u * LANES, 4, units, rows, found, reached - 2 * u, to_drive + 2 * u * LANES);
        }
    }
}

/* Whether a step has enough spikes for `gather`. */
static inline int is_gathered(const synapse_t *s, int count) {
    const int64_t sources = s->sources < 1 << BLOCK_BITS ? s->sources : 1 << BLOCK_BITS;
    return s->table && count && (int64_t)count * s->kernel_height * s->kernel_width * s->depth >= GATHER_FROM * sources;
}
