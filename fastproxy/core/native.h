/* What Cython cannot say: branch hints, atomics, the debug switch. */
#ifndef FASTPROXY_NATIVE_H
#define FASTPROXY_NATIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define fp_likely(x) __builtin_expect(!!(x), 1)
#define fp_unlikely(x) __builtin_expect(!!(x), 0)

#ifdef FP_DEBUG
#define FP_DEBUG_BUILD 1
/* An impossible state stops the debug build; in release the caller counts it and closes the conn. */
#define fp_assert(x) do { if (!(x)) { fprintf(stderr, "fastproxy: assertion failed: %s (%s:%d)\n", #x, __FILE__, __LINE__); abort(); } } while (0)
#else
#define FP_DEBUG_BUILD 0
#define fp_assert(x) do { } while (0)
#endif

static inline uint64_t fp_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Memory of the core. The debug build counts the blocks, so that a forgotten one is seen when the last core has gone, and can
   be made to run short: FASTPROXY_FAIL_ALLOC=FROM-TO/N lets about every N-th of the requests FROM to TO fail. */
#ifdef FP_DEBUG
static int64_t fp_blocks, fp_owners, fp_requests, fp_fail_from, fp_fail_to, fp_fail_every;

static inline void fp_memory_init(void)
{
    const char *text = getenv("FASTPROXY_FAIL_ALLOC");
    long from, to, every;
    if (text && sscanf(text, "%ld-%ld/%ld", &from, &to, &every) == 3 && every > 0)
        fp_fail_from = from, fp_fail_to = to, fp_fail_every = every;
}
static inline int fp_refuse(void)
{
    int64_t n;
    if (!fp_fail_every) return 0;
    n = __atomic_add_fetch(&fp_requests, 1, __ATOMIC_RELAXED);
    return n >= fp_fail_from && n <= fp_fail_to && ((uint64_t)n * 0x9e3779b97f4a7c15ull >> 32) % (uint64_t)fp_fail_every == 0;
}
static inline void *fp_counted(void *p)
{
    if (p) __atomic_add_fetch(&fp_blocks, 1, __ATOMIC_RELAXED);
    return p;
}
static inline void *fp_malloc(size_t n) { return fp_refuse() ? NULL : fp_counted(malloc(n)); }
static inline void *fp_calloc(size_t n, size_t size) { return fp_refuse() ? NULL : fp_counted(calloc(n, size)); }
static inline void *fp_realloc(void *p, size_t n)
{
    if (!p) return fp_malloc(n);
    return fp_refuse() ? NULL : realloc(p, n);
}
static inline void fp_free(void *p)
{
    if (p) __atomic_sub_fetch(&fp_blocks, 1, __ATOMIC_RELAXED);
    free(p);
}
/* At the end of the process: nothing is left, unless a Python object that owns blocks is still there. */
static inline void fp_own(int n) { __atomic_add_fetch(&fp_owners, n, __ATOMIC_RELAXED); }
static inline void fp_balance(void) { fp_assert(fp_owners || !fp_blocks); }
#else
static inline void fp_memory_init(void) {}
static inline void fp_own(int n) { (void)n; }
static inline void fp_balance(void) {}
#define fp_malloc malloc
#define fp_calloc calloc
#define fp_realloc realloc
#define fp_free free
#endif

/* Counters have one writer (their worker) and readers in other threads: relaxed loads and stores, no lock prefix. */
static inline void fp_count(uint64_t *p, uint64_t n)
{
    __atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
static inline void fp_count32(uint32_t *p, uint32_t n)
{
    __atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
static inline uint64_t fp_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint32_t fp_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void fp_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline uint8_t fp_load8(const uint8_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void fp_store8(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void fp_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }

/* Shared by all workers. */
static inline int32_t fp_atomic_add32(int32_t *p, int32_t n) { return __atomic_add_fetch(p, n, __ATOMIC_RELAXED); }
static inline int32_t fp_atomic_load32(const int32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void fp_atomic_store32(int32_t *p, int32_t n) { __atomic_store_n(p, n, __ATOMIC_RELAXED); }
/* A flag that one thread holds at a time, with what it guards. */
static inline int fp_claim32(int32_t *p)
{
    int32_t free = 0;
    return __atomic_compare_exchange_n(p, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}
static inline void fp_release32(int32_t *p) { __atomic_store_n(p, 0, __ATOMIC_RELEASE); }
/* A ring's two ends, and the flag by which its reader sleeps: what is stored must be seen before what is then loaded. */
static inline uint64_t fp_load_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void fp_store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void fp_store_ordered(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
static inline int32_t fp_load_ordered32(const int32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static inline void fp_store_ordered32(int32_t *p, int32_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
/* A reference count: the one who takes it to zero must see what the others wrote. */
static inline int32_t fp_ref_add(int32_t *p, int32_t n) { return __atomic_add_fetch(p, n, __ATOMIC_ACQ_REL); }
static inline int fp_flag_load(const int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void fp_flag_store(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void *fp_ptr_load(void **p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void fp_ptr_store(void **p, void *v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

/* Size classes of buffers; see mem.pyx. */
static const uint32_t fp_buf_sizes[4] = {2048, 8192, 32768, 163840};

static inline int fp_ctz64(uint64_t x) { return __builtin_ctzll(x); }
static inline int fp_clz64(uint64_t x) { return __builtin_clzll(x); }

/* Bounds of a histogram bucket: base 2, 8 to the octave, first octave starts at 1024 ns (see stats.pyx). */
static inline uint32_t fp_bucket(uint64_t ns)
{
    uint32_t e, b;
    if (ns < 1024) return 0;
    e = 63 - (uint32_t)fp_clz64(ns);
    b = 1 + (e - 10) * 8 + (uint32_t)((ns >> (e - 3)) & 7);
    return b > 255 ? 255 : b;
}

#endif
