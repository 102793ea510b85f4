# Runs compiled regular expressions: one pass over the text, whatever the expression and whoever wrote the text.


cdef inline bint regex_match(const regex_t *r, const uint8_t *p, size_t n) noexcept nogil:
    """Whether the whole of p[0:n] matches."""
    cdef const uint8_t *end = p + n
    cdef uint32_t state = r.start
    while p < end:
        state = r.next[state * r.n_classes + r.classes[p[0]]]
        if state == 0:
            return False
        p += 1
    return state >= r.first_accepting


cdef regex_t *regex_make(str pattern) except NULL:
    """The automaton of a pattern, to be freed with free(). ValueError says why a pattern cannot be one."""
    from fastproxy.proxy.regex import compile_regex      # only who has an expression pays for the compiler
    dfa = compile_regex(pattern)
    cdef bytes classes = dfa.classes
    cdef bytes table = dfa.table.tobytes()
    cdef size_t size = sizeof(regex_t) + len(table)
    if len(classes) != 256 or dfa.table.itemsize != 2 or len(table) != 2 * dfa.states * dfa.n_classes:
        raise SystemError("regex: the compiler and the core disagree")
    cdef regex_t *r = <regex_t *>malloc(size)
    if r == NULL:
        raise MemoryError
    r.start = dfa.start
    r.first_accepting = dfa.first_accepting
    r.n_classes = dfa.n_classes
    r.bytes = <uint32_t>size
    r.next = <uint16_t *>(<uint8_t *>r + sizeof(regex_t))
    memcpy(r.classes, <const char *>classes, 256)
    memcpy(r.next, <const char *>table, len(table))
    return r
