# Finds the route of a request: hashes lead to the few routes that can fit its host and path, predicates decide.
#
# Every route is filed once, under its host pattern (a group) and in that under its path: whole texts in one hash table,
# the rest in two lists per group (any path; paths that only a look can tell: suffix, contains, regex, inverted). A
# request looks up its host, then each prefix of its path that ends at a segment, in one pass over either. What is found
# are lists of rules in order; they are merged, and the first rule whose predicates hold is the route. So the cost grows
# with the request and with the routes that share its very path, not with the table. Hostile input costs linear time:
# each byte is hashed once for a group, and no look-up is made deeper than the group's patterns go.
#
# Semantics. Paths are compared byte for byte as received, case and percent-encoding included, without the query. Hosts
# are compared in lower case, without port and without one dot at the end; one longer than MATCH_MAX_HOST has only the
# routes for every host. Header lines of one name are one value, joined by ','. A header or parameter that is absent
# fails every matcher, inverted or not, but for an inverted `present` (Envoy). Of a query parameter the first occurrence
# counts, undecoded (Envoy). A regex has to match the whole (Envoy).

from libc.string cimport memchr, memcmp, memcpy

cdef extern from "core/match.h" nogil:
    uint64_t fp_fold(uint64_t a, uint64_t b)
    uint64_t fp_hash(uint64_t h, const uint8_t *p, size_t n, const uint64_t *key)
    uint64_t fp_hash_segment(uint64_t h, const uint8_t **at, const uint8_t *end, const uint64_t *key)
    void fp_lower(uint8_t *to, const uint8_t *p, size_t n)
    void *memmem(const void *text, size_t n, const void *part, size_t part_n)

cdef enum:
    MATCH_MAX_HOST = 255           # a DNS name has at most 253 bytes (RFC 1035 2.3.4)
    MATCH_MAX_JOINED = 1 << 16     # lines of one name joined, more than the default head; beyond it nothing holds
    MATCH_LISTS = 32               # lists that are merged at once
    MATCH_GROUPS = 2 * MATCH_MAX_HOST + 2
    MATCH_NONE = 0xffffffff

# One look-up. The lists found so far wait in `lists`; `best` is what came out of those already merged.
cdef struct match_t:
    const route_table_t *table
    const view_t *view
    uint32_t best                  # rule, or MATCH_NONE
    uint32_t n_lists
    uint8_t why                    # match_why, should nothing be found
    bint host_fits                 # host[0:host_len] is the name; else it is too long to be one
    uint32_t host_len
    uint32_t memo                  # header name whose value is at hand; MATCH_NONE at first
    uint32_t memo_len
    uint32_t memo_lines            # 0: absent, 1, or 2 for more
    const uint8_t *memo_value
    match_span_t lists[MATCH_LISTS]
    uint8_t host[MATCH_MAX_HOST + 9]


# ---- the view -------------------------------------------------------------------------------------------------------

cdef inline void view_from_h1(view_t *view, const uint8_t *base, h1_head_t *head) noexcept nogil:
    view.base = base
    view.h1 = head
    view.method = base + head.method_text.at
    view.method_len = head.method_text.len
    view.method_id = head.method
    view.host = base + head.host.at
    view.host_len = head.host.len
    view.path = base + head.path.at
    view.path_len = head.path.len
    if head.path.len == 0 and head.flags & H1_F_ABSOLUTE:
        view.path = <const uint8_t *>b"/"                # RFC 9112 3.2.1
        view.path_len = 1
    view.query = base + head.query.at
    view.query_len = head.query.len if head.has_query else 0


cdef bint view_field(const view_t *view, const char *lower_name, uint32_t name_len, uint8_t hid, int *iter,
                     const uint8_t **value, uint32_t *value_len) noexcept nogil:
    """The next field of that name; *iter is 0 before the first. hid is the name's, or HID_OTHER.

    A field that Connection names is not seen: it is not forwarded either, and what is forwarded is what was matched.
    """
    cdef h1_head_t *head = view.h1
    cdef h1_field_t *f
    cdef int i = iter[0]
    if head == NULL or hid != HID_OTHER and head.at[hid] == 0:
        return False
    while i < head.n_fields:
        f = &head.fields[i]
        i += 1
        if f.hid != hid or f.name_len != name_len:
            continue
        if hid == HID_OTHER and not fp_fold_same(view.base + f.name, <const uint8_t *>lower_name, name_len):
            continue
        if f.flags & FIELD_HOP and head.flags & H1_F_NAMED and not H1_ALWAYS_HOP >> f.hid & 1:
            continue
        iter[0] = i
        value[0] = view.base + f.value
        value_len[0] = f.value_len
        return True
    iter[0] = i
    return False


# ---- predicates -----------------------------------------------------------------------------------------------------

cdef bint match_text(const route_table_t *t, const match_predicate_t *p, const uint8_t *value, size_t n) noexcept nogil:
    """Whether the value is what the predicate asks for, inversion left out."""
    cdef const uint8_t *text = t.text + p.text
    cdef size_t len = p.text_len
    if p.op == MATCH_EXACT:
        return n == len and memcmp(value, text, n) == 0
    if p.op == MATCH_PREFIX:
        return n >= len and memcmp(value, text, len) == 0
    if p.op == MATCH_SUFFIX:
        return n >= len and memcmp(value + n - len, text, len) == 0
    if p.op == MATCH_CONTAINS:
        return n >= len and memmem(value, n, text, len) != NULL
    if p.op == MATCH_REGEX:
        return regex_match(t.regexes[p.text], value, n)
    if p.op == MATCH_SEGMENT:
        return n >= len and memcmp(value, text, len) == 0 and (len == 0 or n == len or value[len] == 47)
    return True


cdef bint match_joined(match_t *m, const match_predicate_t *p) noexcept nogil:
    """match_text of the lines of one header joined by ','; apart, because it needs much stack. False if too long."""
    cdef uint8_t joined[MATCH_MAX_JOINED]
    cdef const uint8_t *value = NULL
    cdef uint32_t value_len = 0
    cdef uint32_t n = 0
    cdef int i = 0
    while view_field(m.view, <const char *>m.table.text + p.name, p.name_len, p.hid, &i, &value, &value_len):
        if value_len + 1 > MATCH_MAX_JOINED - n:
            return False
        memcpy(joined + n, value, value_len)
        joined[n + value_len] = 44
        n += value_len + 1
    return match_text(m.table, p, joined, n - 1) != p.invert


cdef bint match_header(match_t *m, const match_predicate_t *p) noexcept nogil:
    cdef const uint8_t *value = NULL
    cdef uint32_t value_len = 0
    cdef int i = 0
    if m.memo != p.name:                     # routes of one path tend to ask for one header
        m.memo = p.name
        m.memo_lines = 0
        if view_field(m.view, <const char *>m.table.text + p.name, p.name_len, p.hid, &i, &m.memo_value, &m.memo_len):
            m.memo_lines = 1
            if view_field(m.view, <const char *>m.table.text + p.name, p.name_len, p.hid, &i, &value, &value_len):
                m.memo_lines = 2
    if p.op == MATCH_PRESENT:
        return (m.memo_lines != 0) != p.invert
    if m.memo_lines == 0:
        return False
    if m.memo_lines > 1:
        return match_joined(m, p)
    return match_text(m.table, p, m.memo_value, m.memo_len) != p.invert


cdef bint match_query(match_t *m, const match_predicate_t *p) noexcept nogil:
    cdef const uint8_t *at = m.view.query
    cdef const uint8_t *end = at + m.view.query_len
    cdef const uint8_t *name = m.table.text + p.name
    cdef const uint8_t *stop
    while at < end:
        stop = <const uint8_t *>memchr(at, 38, end - at)
        if stop == NULL:
            stop = end
        if <size_t>(stop - at) >= p.name_len and memcmp(at, name, p.name_len) == 0:
            at += p.name_len
            if at == stop or at[0] == 61:
                if p.op == MATCH_PRESENT:
                    return not p.invert
                if at < stop:
                    at += 1
                return match_text(m.table, p, at, stop - at) != p.invert
        at = stop + 1
    return p.op == MATCH_PRESENT and p.invert


cdef bint match_one_of(match_t *m, const match_predicate_t *p) noexcept nogil:
    """A method without an id. Names are tokens, so that a blank cannot be part of one."""
    cdef const uint8_t *at = m.table.text + p.text
    cdef const uint8_t *end = at + p.text_len
    cdef const uint8_t *stop
    if m.view.method_id != H1_M_OTHER:
        return True                          # decided by the bit
    while at < end:
        stop = <const uint8_t *>memchr(at, 32, end - at)
        if stop == NULL:
            stop = end
        if <size_t>(stop - at) == m.view.method_len and memcmp(at, m.view.method, stop - at) == 0:
            return True
        at = stop + 1
    return False


cdef bint match_holds(match_t *m, const match_rule_t *rule) noexcept nogil:
    """Whether all that the rule asks for beyond where it was found is so."""
    cdef const match_predicate_t *p = m.table.predicates + rule.predicates
    cdef const match_predicate_t *end = p + rule.n_predicates
    cdef bint ok = rule.methods >> m.view.method_id & 1
    while ok and p < end:
        if p.subject == MATCH_HOST:
            if not m.host_fits or match_text(m.table, p, m.host, m.host_len) == p.invert:
                return False
        elif p.subject == MATCH_PATH:
            if match_text(m.table, p, m.view.path, m.view.path_len) == p.invert:
                return False
        elif p.subject == MATCH_HEADER:
            ok = match_header(m, p)
        elif p.subject == MATCH_QUERY:
            ok = match_query(m, p)
        else:
            ok = match_one_of(m, p)
        p += 1
    if not ok:
        m.why = MATCH_NO_RULE
    return ok


# ---- candidates -----------------------------------------------------------------------------------------------------

cdef void match_merge(match_t *m) noexcept nogil:
    """The first rule that holds, of the lists and of m.best, to m.best; no rule after it is tried."""
    cdef const uint32_t *order = m.table.order
    cdef uint32_t i, pick, first, second, rule
    cdef match_span_t *span
    while True:
        pick = MATCH_NONE
        first = second = m.best
        for i in range(m.n_lists):
            span = &m.lists[i]
            if span.at < span.end:
                rule = order[span.at]
                if rule < first:
                    second = first
                    first = rule
                    pick = i
                elif rule < second:
                    second = rule
        if pick == MATCH_NONE:
            break
        span = &m.lists[pick]
        while span.at < span.end and order[span.at] < second:
            if match_holds(m, m.table.rules + order[span.at]):
                m.best = order[span.at]
                m.n_lists = 0
                return
            span.at += 1
    m.n_lists = 0


cdef inline void match_add(match_t *m, match_span_t span) noexcept nogil:
    if span.at == span.end:
        return
    if m.n_lists == MATCH_LISTS:
        match_merge(m)
    m.lists[m.n_lists] = span
    m.n_lists += 1


cdef inline bint match_has(uint64_t depths, uint32_t depth) noexcept nogil:
    return depths >> (63 if depth > 63 else depth) & 1


cdef inline uint64_t match_bucket_hash(const route_table_t *t, uint64_t h, uint32_t group) noexcept nogil:
    return fp_fold(h ^ group, t.key[1])


cdef const match_bucket_t *match_bucket(const route_table_t *t, uint64_t h, uint32_t group, const uint8_t *text,
                                        size_t n, bint is_prefix) noexcept nogil:
    """The bucket of a group for a text with that hash, or NULL."""
    cdef const match_bucket_t *b
    cdef match_slot_t slot
    h = match_bucket_hash(t, h, group)
    cdef uint32_t i = <uint32_t>h & t.bucket_mask
    while True:
        slot = t.bucket_slots[i]
        if slot.entry == 0:
            return NULL
        if slot.tag == <uint32_t>(h >> 32):
            b = t.buckets + slot.entry - 1
            if (b.group == group and b.text_len == n and b.is_prefix == <uint32_t>is_prefix
                    and memcmp(t.text + b.text, text, n) == 0):
                return b
        i = (i + 1) & t.bucket_mask


cdef void match_prefixes(match_t *m, uint32_t group) noexcept nogil:
    """Adds the rules of plain byte prefixes: one look-up for each length that the group has."""
    cdef const route_table_t *t = m.table
    cdef const match_group_t *g = t.groups + group
    cdef const uint8_t *path = m.view.path
    cdef const match_bucket_t *b
    cdef uint64_t h = t.key[0]
    cdef uint32_t i, n
    cdef uint32_t done = 0
    for i in range(g.lengths, g.lengths + g.n_lengths):
        n = t.lengths[i]
        if n > m.view.path_len:
            break
        h = fp_hash(h, path + done, n - done, t.key)
        done = n
        b = match_bucket(t, h, group, path, n, True)
        if b != NULL:
            match_add(m, b.below)


cdef void match_path(match_t *m, uint32_t group) noexcept nogil:
    """Adds the rules of a group that fit the path."""
    cdef const route_table_t *t = m.table
    cdef const match_group_t *g = t.groups + group
    cdef const uint8_t *path = m.view.path
    cdef const uint8_t *end = path + m.view.path_len
    cdef const uint8_t *p = path
    cdef const match_bucket_t *b
    cdef uint64_t h = t.key[0]
    cdef uint32_t depth = 0
    cdef bint exact = m.view.path_len < g.max_exact
    match_add(m, g.any)
    while p < end and (exact or depth < g.max_depth):
        if p[0] == 47:
            p += 1
        h = fp_hash_segment(h, &p, end, t.key)
        depth += 1
        if p == end:
            if exact or match_has(g.depths, depth):
                b = match_bucket(t, h, group, path, p - path, False)
                if b != NULL:
                    match_add(m, b.exact)
                    match_add(m, b.below)
        elif match_has(g.depths, depth):
            b = match_bucket(t, h, group, path, p - path, False)
            if b != NULL:
                match_add(m, b.below)
    if g.n_lengths:
        match_prefixes(m, group)
    match_add(m, g.loose)


# ---- hosts ----------------------------------------------------------------------------------------------------------

cdef inline uint64_t match_host_hash(const route_table_t *t, uint64_t h, uint8_t op) noexcept nogil:
    return fp_fold(h ^ op, t.key[1])


cdef uint32_t match_host(const route_table_t *t, uint64_t h, uint8_t op, const uint8_t *text, size_t n) noexcept nogil:
    """1 + the group of a host pattern, or 0."""
    cdef const match_host_t *entry
    cdef match_slot_t slot
    h = match_host_hash(t, h, op)
    cdef uint32_t i = <uint32_t>h & t.host_mask
    while True:
        slot = t.host_slots[i]
        if slot.entry == 0:
            return 0
        if slot.tag == <uint32_t>(h >> 32):
            entry = t.hosts + slot.entry - 1
            if entry.op == op and entry.text_len == n and memcmp(t.text + entry.text, text, n) == 0:
                return entry.group + 1
        i = (i + 1) & t.host_mask


cdef void match_host_text(match_t *m) noexcept nogil:
    """The host in lower case without port and final dot, to m.host."""
    cdef const uint8_t *host = m.view.host
    cdef uint32_t n = m.view.host_len
    cdef uint32_t i = n
    while i and <uint8_t>(host[i - 1] - 48) <= 9:
        i -= 1
    if i and host[i - 1] == 58:              # an address in brackets ends with ']' or with a port
        n = i - 1
    if n and host[n - 1] == 46:
        n -= 1
    m.host_fits = n <= MATCH_MAX_HOST
    m.host_len = n if m.host_fits else 0
    fp_lower(m.host, host, m.host_len)


cdef uint32_t match_suffixes(match_t *m, uint32_t *groups) noexcept nogil:
    """The groups of the "*." patterns that fit, shortest first -> their number. The '*' stands for one byte or more."""
    cdef const route_table_t *t = m.table
    cdef const uint8_t *host = m.host
    cdef uint64_t h = t.key[0]
    cdef uint32_t stop = m.host_len
    cdef uint32_t i = stop
    cdef uint32_t depth = 0
    cdef uint32_t n = 0
    cdef uint32_t group
    while depth < t.suffix_max and i > 1:    # host[0] has to be of the '*'
        i -= 1
        if host[i] == 46:
            h = fp_hash(h, host + i + 1, stop - i - 1, t.key)
            stop = i
            depth += 1
            if match_has(t.suffix_depths, depth):
                group = match_host(t, h, MATCH_SUFFIX, host + i + 1, m.host_len - i - 1)
                if group:
                    groups[n] = group - 1
                    n += 1
    return n


cdef uint32_t match_host_prefixes(match_t *m, uint32_t *groups) noexcept nogil:
    """The same of the ".*" patterns."""
    cdef const route_table_t *t = m.table
    cdef const uint8_t *host = m.host
    cdef uint64_t h = t.key[0]
    cdef uint32_t start = 0
    cdef uint32_t i = 0
    cdef uint32_t depth = 0
    cdef uint32_t n = 0
    cdef uint32_t group
    while depth < t.prefix_max and i + 1 < m.host_len:
        if host[i] == 46:
            h = fp_hash(h, host + start, i - start, t.key)
            start = i + 1
            depth += 1
            if match_has(t.prefix_depths, depth):
                group = match_host(t, h, MATCH_PREFIX, host, i)
                if group:
                    groups[n] = group - 1
                    n += 1
        i += 1
    return n


cdef void match_hosts(match_t *m) noexcept nogil:
    """Adds the rules of the groups that have a say for this host."""
    cdef const route_table_t *t = m.table
    cdef uint32_t groups[MATCH_GROUPS]
    cdef uint32_t n = 0
    cdef uint32_t i
    cdef uint32_t exact = 0
    if t.has_names:
        match_host_text(m)
    if t.n_hosts and m.host_len:
        exact = match_host(t, fp_hash(t.key[0], m.host, m.host_len, t.key), MATCH_EXACT, m.host, m.host_len)
        if exact:
            groups[0] = exact - 1
            n = 1
        if t.ordered:
            n += match_suffixes(m, groups + n)
            n += match_host_prefixes(m, groups + n)
        elif not exact:
            n = match_suffixes(m, groups)
            if n == 0:
                n = match_host_prefixes(m, groups)
            if n:
                groups[0] = groups[n - 1]    # the longest, no other
                n = 1
    if t.any_host and (t.ordered or n == 0):
        groups[n] = t.any_host - 1
        n += 1
    if n:
        m.why = MATCH_NO_PATH
    for i in range(n):
        match_path(m, groups[i])


cdef void *table_match(const route_table_t *t, const view_t *view, char *why) noexcept nogil:
    """The route of a request, or NULL and a match_why in *why (which may be NULL)."""
    cdef match_t m
    m.table = t
    m.view = view
    m.best = MATCH_NONE
    m.n_lists = 0
    m.why = MATCH_NO_HOST
    m.host_len = 0
    m.memo = MATCH_NONE
    match_hosts(&m)
    match_merge(&m)
    if m.best != MATCH_NONE:
        m.why = MATCH_FOUND
    if why != NULL:
        why[0] = <char>m.why
    return t.rules[m.best].route if m.best != MATCH_NONE else NULL
