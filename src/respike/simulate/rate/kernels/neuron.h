/* One step of LANES neurons at a time. Built twice: with 16-bit weights summed in 32 bits, and, with -DWIDE, 24-bit weights summed
 * in 64 bits. */
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16

#ifdef WIDE
typedef int32_t weight_t;
typedef int64_t sum_t;
#else
typedef int16_t weight_t;
typedef int32_t sum_t;
#endif
typedef weight_t weights_t __attribute__((vector_size(sizeof(weight_t) * LANES), aligned(32), may_alias));
typedef int32_t row_sums_t __attribute__((vector_size(4 * LANES), aligned(64), may_alias)); /* tabulated sums of up to six weights */
typedef sum_t sums_t __attribute__((vector_size(sizeof(sum_t) * LANES), aligned(64), may_alias));

static inline sums_t load(const sum_t *p) { return *(const sums_t *)p; }
static inline void store(sum_t *p, sums_t x) { *(sums_t *)p = x; }
#if defined(__AVX512F__) && !defined(WIDE) /* one instruction; gcc compiles the conversion below to five */
static inline sums_t load_weights(const weight_t *p) { return (sums_t)_mm512_cvtepi16_epi32(*(const __m256i *)p); }
#else
static inline sums_t load_weights(const weight_t *p) { return __builtin_convertvector(*(const weights_t *)p, sums_t); }
#endif
static inline sums_t load_sums(const int32_t *p) { return __builtin_convertvector(*(const row_sums_t *)p, sums_t); }

typedef struct {
    int32_t soft, blocked; /* soft: subtract the threshold at a spike; blocked: steps after a spike without input */
    sum_t threshold, fires_at;
    sum_t guard; /* 0, or the largest |potential| from which one more step cannot leave the sums' range */
} neuron_t;

/* One bit per lane: 1 where the lane is all ones. */
static inline uint32_t lanes(sums_t fired) {
#if defined(__AVX512DQ__) && defined(WIDE)
    const __m512i *halves = (const __m512i *)&fired;
    return (uint32_t)_mm512_movepi64_mask(halves[0]) | (uint32_t)_mm512_movepi64_mask(halves[1]) << 8;
#elif defined(__AVX512F__) && !defined(WIDE)
    return _mm512_test_epi32_mask((__m512i)fired, (__m512i)fired);
#else
    uint32_t mask = 0;
    for (int k = 0; k < LANES; k++) mask |= (uint32_t)(fired[k] & 1) << k;
    return mask;
#endif
}

/* One bit per value: 1 where it is not 0. */
static inline uint32_t nonzero(const uint8_t *values) {
#ifdef __AVX512F__
    return (uint32_t)~_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)values), _mm_setzero_si128())) & 0xffff;
#else
    uint32_t mask = 0;
    for (int k = 0; k < LANES; k++) mask |= (uint32_t)(values[k] != 0) << k;
    return mask;
#endif
}

/* Writes the numbers of the set lanes of the neurons from number `base` on to `out`, which has room for LANES numbers. Returns their
 * count. */
static inline __attribute__((always_inline)) int append(uint32_t mask, int base, uint16_t *out) {
#if defined(__AVX512VBMI2__) && defined(__AVX512VL__)
    const __m256i numbers = _mm256_add_epi16(_mm256_set1_epi16((short)base), _mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    _mm256_storeu_si256((__m256i *)out, _mm256_maskz_compress_epi16((__mmask16)mask, numbers));
    return __builtin_popcount(mask);
#else
    int found = 0;
    for (; mask; mask &= mask - 1) out[found++] = (uint16_t)(base + __builtin_ctz(mask));
    return found;
#endif
}

/* One step of the LANES neurons from number `base` on. Appends those that fire to `out`, and returns their count. left: lanes whose potential has passed the guard. */
static inline __attribute__((always_inline)) int step(const neuron_t *n, sums_t drive, sums_t *v, sums_t *waiting, sums_t *left, int base, uint16_t *out) {
    sums_t x = *v, fired;
    if (n->blocked) {
        sums_t is_blocked = *waiting > 0;
        x += drive & ~is_blocked;
        fired = (x >= n->fires_at) & ~is_blocked;
        *waiting = ((*waiting - 1) & ~fired) | (n->blocked & fired);
    } else {
        x += drive;
        fired = x >= n->fires_at;
    }
    if (n->guard) *left |= (x > n->guard) | (x < -n->guard);
    *v = n->soft ? x - (n->threshold & fired) : x & ~fired;
    return append(lanes(fired), base, out);
}
