/* Hashes over paths and hosts for the route table: keyed, 8 bytes at a step, nothing read outside the text.
 *
 * A path is hashed segment by segment in a chain, so that one pass gives the hash of every prefix that ends at a '/'.
 * Within a segment the steps are of 8 bytes from its start, the last one padded with zeros and told by its length. */
#ifndef FASTPROXY_MATCH_H
#define FASTPROXY_MATCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <string.h>
#include <sys/random.h>
#include "scan.h"

#define FP_COLD __attribute__((noinline, cold))

/* A key is three random numbers, the last two odd: where a chain starts, and the factors of a full and of a last step. */

/* The two halves of the 128-bit product, folded (as in wyhash): every bit of the factors reaches every bit of it. */
FP_INLINE uint64_t fp_fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
#else
    uint64_t x = (a >> 32) * (b >> 32), y = (a >> 32) * (uint32_t)b, z = (b >> 32) * (uint32_t)a;
    return (a * b) ^ (x + (y >> 32) + (z >> 32));
#endif
}

/* n < 8 bytes as a word, the first one lowest, zeros above. */
FP_INLINE uint64_t fp_word(const uint8_t *p, size_t n)
{
    uint64_t w = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint32_t four;
    uint16_t two;
    if (n & 1)
        w = p[n - 1];
    if (n & 2) {
        memcpy(&two, p + (n & 4), 2);
        w = w << 16 | two;
    }
    if (n & 4) {
        memcpy(&four, p, 4);
        w = w << 32 | four;
    }
#else
    while (n)
        w = w << 8 | p[--n];
#endif
    return w;
}

FP_INLINE uint64_t fp_word8(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, 8);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    return w;
}

/* Chains n bytes on to h. */
FP_INLINE uint64_t fp_hash(uint64_t h, const uint8_t *p, size_t n, const uint64_t *key)
{
    for (; n >= 8; n -= 8, p += 8)
        h = fp_fold(h ^ fp_word8(p), key[1]);
    return fp_fold(h ^ (fp_word(p, n) << 8 | n), key[2]);
}

/* Chains the bytes from *at up to the next '/' on to h and moves *at there, or to end. */
FP_INLINE uint64_t fp_hash_segment(uint64_t h, const uint8_t **at, const uint8_t *end, const uint64_t *key)
{
    const uint8_t *p = *at;
    uint64_t w, x, found;
    size_t n;
    for (;;) {
        n = (size_t)(end - p);
        w = n >= 8 ? fp_word8(p) : fp_word(p, n);
        x = w ^ 0x2f2f2f2f2f2f2f2full;
        found = (x - 0x0101010101010101ull) & ~x & 0x8080808080808080ull; /* its lowest bit is true: the first '/' */
        if (found) {
            n = (size_t)__builtin_ctzll(found) >> 3;
            w &= ((uint64_t)1 << 8 * n) - 1;
            break;
        }
        if (n < 8)
            break;
        h = fp_fold(h ^ w, key[1]);
        p += 8;
    }
    *at = p + n;
    return fp_fold(h ^ (w << 8 | n), key[2]);
}

/* Copies n bytes with A-Z in lower case. `to` has room for n rounded up to 8, and for 8. */
FP_INLINE void fp_lower(uint8_t *to, const uint8_t *p, size_t n)
{
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t w, low, upper;
    for (;;) {
        w = n >= 8 ? fp_word8(p) : fp_word(p, n);
        low = w & ones * 0x7f;
        upper = ((low + ones * (0x80 - 'A')) ^ (low + ones * (0x7f - 'Z'))) & ~w & ones * 0x80;
        w |= upper >> 2;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        w = __builtin_bswap64(w);
#endif
        memcpy(to, &w, 8);
        if (n <= 8)
            return;
        n -= 8, p += 8, to += 8;
    }
}

#endif
