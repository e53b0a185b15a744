/* Lists of spikes: what one layer hands to the next. Neurons are numbered with channels last, padded to LANES; a list holds the
 * numbers of those that spike in a step, in ascending order. Numbers have 16 bits: a layer is cut into blocks of 65,536 neurons. */
#include <stdint.h>

#define BLOCK_BITS 16

/* spikes (images, steps, room), block k from k * 65536 on; count (images, blocks, steps) */
typedef struct { uint16_t *spikes; int32_t *count; int64_t room; int32_t steps, blocks; } lists_t;
/* One block of one image: spikes (steps, room), count (steps). */
typedef struct { uint16_t *spikes; int32_t *count; int64_t room; } list_t;

static inline list_t list_of(const lists_t *l, int image, int block) {
    list_t list = {l->spikes + (int64_t)image * l->steps * l->room + ((int64_t)block << BLOCK_BITS), l->count + ((int64_t)image * l->blocks + block) * l->steps, l->room};
    return list;
}

static inline uint16_t *spikes_at(const list_t *l, int t) { return l->spikes + t * l->room; }
