/* Byte scans of the HTTP/1 parser: 16 bytes at a step with SSE2 (every x86-64 has it), else byte by byte.
 *
 * Each returns the first byte that does not belong to its class, or `end`. Nothing is read outside [base, end):
 * the last, partial step loads the 16 bytes that end at `end` and shifts away what was seen before. */
#ifndef FASTPROXY_SCAN_H
#define FASTPROXY_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) && !defined(FP_NO_SIMD)
#include <emmintrin.h>
#define FP_SCAN_SSE2 1
#endif

#define FP_INLINE static inline __attribute__((always_inline))

enum {
    FP_TOKEN = 1,  /* tchar, RFC 9110 5.6.2 */
    FP_TEXT = 2,   /* HTAB, SP, VCHAR, obs-text: what a field value may hold, RFC 9110 5.5 */
    FP_HOST = 4,   /* unreserved and sub-delims of RFC 3986 without ',': a comma means that two Host lines were joined */
    FP_NAME = 8,   /* letters, digits, '-': nearly every field name there is */
    FP_AUTH = 16,  /* FP_NAME and '.': nearly every host there is */
};

#define X_(c) FP_TEXT
#define T_ (FP_TEXT | FP_TOKEN)
#define B_ (FP_TEXT | FP_TOKEN | FP_HOST)
#define H_ (FP_TEXT | FP_HOST)
#define A_ (FP_TEXT | FP_TOKEN | FP_HOST | FP_NAME | FP_AUTH)
#define D_ (FP_TEXT | FP_TOKEN | FP_HOST | FP_AUTH)
#define P_ FP_TEXT
#define ROW8(x) x, x, x, x, x, x, x, x
static const uint8_t fp_class[256] = {
    /* 00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, P_, 0, 0, 0, 0, 0, 0,
    /* 10 */ ROW8(0), ROW8(0),
    /* 20   ! " # $ % & ' ( ) * + , - . / */ P_, B_, P_, T_, B_, T_, B_, B_, H_, H_, B_, B_, P_, A_, D_, P_,
    /* 30 0-9 : ; < = > ? */ ROW8(A_), A_, A_, P_, H_, P_, H_, P_, P_,
    /* 40 @ A-O */ P_, A_, A_, A_, A_, A_, A_, A_, ROW8(A_),
    /* 50 P-Z [ \ ] ^ _ */ ROW8(A_), A_, A_, A_, P_, P_, P_, T_, B_,
    /* 60 ` a-o */ T_, A_, A_, A_, A_, A_, A_, A_, ROW8(A_),
    /* 70 p-z { | } ~ DEL */ ROW8(A_), A_, A_, A_, P_, T_, P_, B_, 0,
    /* 80 */ ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_),
    ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_), ROW8(P_),
};
#undef X_
#undef T_
#undef B_
#undef H_
#undef A_
#undef D_
#undef P_
#undef ROW8

FP_INLINE int fp_hex(uint8_t c)
{
    if ((uint8_t)(c - '0') <= 9)
        return c - '0';
    c |= 0x20;
    return (uint8_t)(c - 'a') <= 5 ? c - 'a' + 10 : -1;
}

/* ASCII case-insensitive equality with a lower-case literal of letters, digits and '-'. `p` must hold no control
 * characters (they were refused before), so that setting bit 5 maps nothing else onto those. */
FP_INLINE int fp_fold_eq(const uint8_t *p, const char *lower, size_t n)
{
    uint64_t a, b;
    uint32_t c, d;
    for (; n >= 8; n -= 8, p += 8, lower += 8) {
        memcpy(&a, p, 8);
        memcpy(&b, lower, 8);
        if ((a | 0x2020202020202020ull) != b)
            return 0;
    }
    if (n >= 4) {
        memcpy(&c, p, 4);
        memcpy(&d, lower, 4);
        if ((c | 0x20202020u) != d)
            return 0;
        n -= 4, p += 4, lower += 4;
    }
    for (; n; n--, p++, lower++)
        if ((uint8_t)(*p | 0x20) != (uint8_t)*lower)
            return 0;
    return 1;
}

/* The same of two texts of n bytes, both of any case. */
FP_INLINE int fp_fold_same(const uint8_t *p, const uint8_t *q, size_t n)
{
    for (; n; n--, p++, q++) {
        uint8_t a = *p, b = *q;
        if ((uint8_t)(a - 'A') <= 25)
            a |= 0x20;
        if ((uint8_t)(b - 'A') <= 25)
            b |= 0x20;
        if (a != b)
            return 0;
    }
    return 1;
}

/* Plain equality with a literal of 8 bytes. */
FP_INLINE int fp_eq8(const uint8_t *p, const char *text)
{
    uint64_t a, b;
    memcpy(&a, p, 8);
    memcpy(&b, text, 8);
    return a == b;
}

FP_INLINE int fp_is_crlf(const uint8_t *p)
{
    return memcmp(p, "\r\n", 2) == 0;
}

FP_INLINE int fp_is_colon_blank(const uint8_t *p)
{
    return memcmp(p, ": ", 2) == 0;
}

/* memset to zero of a constant size >= 16 with plain stores: for such sizes gcc emits `rep stos`, which starts slowly. */
FP_INLINE void fp_zero(void *at, size_t n)
{
    uint8_t *p = at;
    size_t i;
    for (i = 0; i + 16 <= n; i += 16)
        __builtin_memset(p + i, 0, 16);
    __builtin_memset(p + n - 16, 0, 16);
}

FP_INLINE const uint8_t *fp_scan_class(const uint8_t *p, const uint8_t *end, uint8_t bits)
{
    while (p < end && fp_class[*p] & bits)
        p++;
    return p;
}

#ifdef FP_SCAN_SSE2
#define FP_LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define FP_EQ(x, c) _mm_cmpeq_epi8(x, _mm_set1_epi8((char)(c)))
/* bytes of x that are <= c, unsigned */
#define FP_LE(x, c) _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8((char)(c))), x)

/* A set bit for each byte that ends the class. HTAB counts as an end here: fp_scan_text steps over it, it is rare. */
FP_INLINE unsigned fp_stop_text(__m128i x)
{
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(FP_LE(x, 0x1f), FP_EQ(x, 0x7f)));
}

FP_INLINE unsigned fp_stop_name(__m128i x, int dot)
{
    __m128i letter = FP_LE(_mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a')), 25);
    __m128i digit = FP_LE(_mm_sub_epi8(x, _mm_set1_epi8('0')), 9);
    __m128i good = _mm_or_si128(_mm_or_si128(letter, digit), FP_EQ(x, '-'));
    if (dot)
        good = _mm_or_si128(good, FP_EQ(x, '.'));
    return (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
}

#define FP_SCAN_BODY(STOP, BITS)                                     \
    const uint8_t *last;                                             \
    unsigned m;                                                      \
    if (end - base < 16)                                             \
        return fp_scan_class(p, end, BITS);                          \
    last = end - 16;                                                 \
    for (; p <= last; p += 16) {                                     \
        m = STOP(FP_LOAD(p));                                        \
        if (m)                                                       \
            return p + __builtin_ctz(m);                             \
    }                                                                \
    m = STOP(FP_LOAD(last)) >> (unsigned)(p - last);                 \
    return m ? p + __builtin_ctz(m) : end;
#define FP_STOP_NAME(x) fp_stop_name(x, 0)
#define FP_STOP_AUTH(x) fp_stop_name(x, 1)

FP_INLINE const uint8_t *fp_scan_text_tabless(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    FP_SCAN_BODY(fp_stop_text, FP_TEXT)
}

FP_INLINE const uint8_t *fp_scan_text(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    p = fp_scan_text_tabless(base, p, end);
    while (__builtin_expect(p < end && *p == '\t', 0))
        p = fp_scan_text_tabless(base, p + 1, end);
    return p;
}

FP_INLINE const uint8_t *fp_scan_name(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    FP_SCAN_BODY(FP_STOP_NAME, FP_NAME)
}

FP_INLINE const uint8_t *fp_scan_authority(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    FP_SCAN_BODY(FP_STOP_AUTH, FP_AUTH)
}
#else
FP_INLINE const uint8_t *fp_scan_text(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    (void)base;
    return fp_scan_class(p, end, FP_TEXT);
}

FP_INLINE const uint8_t *fp_scan_name(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    (void)base;
    return fp_scan_class(p, end, FP_NAME);
}

FP_INLINE const uint8_t *fp_scan_authority(const uint8_t *base, const uint8_t *p, const uint8_t *end)
{
    (void)base;
    return fp_scan_class(p, end, FP_AUTH);
}
#endif

/* The end of a request target: the first byte outside 0x21..0x7e. On the way: *query is the first '?' (NULL: none),
 * *odd is set when a '#', '\\' or '%' stands anywhere or a '.' follows a '/': then the target must be read again byte
 * by byte. */
FP_INLINE const uint8_t *fp_scan_target(const uint8_t *base, const uint8_t *p, const uint8_t *end,
                                        const uint8_t **query, int *odd)
{
    const uint8_t *mark = NULL;
    unsigned strange = 0;
    (void)base;
#ifdef FP_SCAN_SSE2
    unsigned slash = 0; /* the byte before this step was a '/' */
    while (end - p >= 16) {
        __m128i x = FP_LOAD(p);
        unsigned stop = (unsigned)_mm_movemask_epi8(FP_LE(_mm_sub_epi8(x, _mm_set1_epi8(0x21)), 0x5d)) ^ 0xffffu;
        unsigned before = stop ? (stop ^ (stop - 1)) >> 1 : 0xffffu;
        unsigned here = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(FP_EQ(x, '%'), _mm_or_si128(FP_EQ(x, '#'), FP_EQ(x, '\\'))));
        unsigned slashes = (unsigned)_mm_movemask_epi8(FP_EQ(x, '/'));
        unsigned dots = (unsigned)_mm_movemask_epi8(FP_EQ(x, '.'));
        unsigned marks = (unsigned)_mm_movemask_epi8(FP_EQ(x, '?')) & before;
        strange |= (here | (dots & (slashes << 1 | slash))) & before;
        slash = slashes >> 15;
        if (marks && !mark)
            mark = p + __builtin_ctz(marks);
        if (stop) {
            *query = mark;
            *odd = strange != 0;
            return p + __builtin_ctz(stop);
        }
        p += 16;
    }
    strange |= slash; /* the byte loop below does not look back over the seam */
#endif
    for (; p < end && (uint8_t)(*p - 0x21) <= 0x5d; p++) {
        if (*p == '?' && !mark)
            mark = p;
        strange |= *p == '#' || *p == '\\' || *p == '%' || *p == '.';
    }
    *query = mark;
    *odd = strange != 0;
    return p;
}

#endif
