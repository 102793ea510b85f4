# Counters of one worker, summed by whoever reads them. Histograms: base 2, 8 buckets to the octave from 1,024 ns
# (Prometheus native schema 3, OpenTelemetry scale 3).

cdef inline void hist_add(hist_t *h, uint64_t ns) noexcept nogil:
    fp_count(&h.count, 1)
    fp_count(&h.sum_ns, ns)
    fp_count(&h.buckets[fp_bucket(ns)], 1)


cdef series_t *series_of(worker_t *w, uint32_t number) noexcept nogil:
    """The worker's counters of a series; those of series 0 when there is no memory for them. NULL: not even that."""
    cdef series_t *chunk
    if number >= SERIES_CHUNK * SERIES_CHUNKS:
        number = 0
    chunk = <series_t *>fp_ptr_load(<void **>&w.series[number // SERIES_CHUNK])
    if chunk == NULL:
        chunk = <series_t *>calloc(SERIES_CHUNK, sizeof(series_t))
        if chunk == NULL:
            return NULL if number == 0 else series_of(w, 0)
        fp_ptr_store(<void **>&w.series[number // SERIES_CHUNK], chunk)
    return chunk + number % SERIES_CHUNK


cdef inline void count_error(worker_t *w, uint32_t cause) noexcept nogil:
    fp_count(&w.errors[cause], 1)


cdef inline uint64_t next_random(worker_t *w) noexcept nogil:
    cdef uint64_t x = w.random
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    w.random = x
    return x * <uint64_t>2685821657736338717


cdef inline uint32_t error_status(uint32_t cause) noexcept nogil:
    return error_statuses[cause]


cdef inline const char *error_name(uint32_t cause) noexcept nogil:
    return error_names[cause]


cdef inline const char *error_sentence(uint32_t cause) noexcept nogil:
    return error_sentences[cause]
