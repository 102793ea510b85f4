# Builds the route table that match.pyx reads: files every route under its host and path, hashes, lays it out in one block.
#
# Runs in Python at plan time. What match.pyx hashes while it walks a request is hashed here for the patterns by the
# same steps: match_chain for paths, match_prefix_chain for plain byte prefixes, match_label_chain for host patterns.

import os


cdef dict MATCH_METHODS = {"GET": H1_M_GET, "HEAD": H1_M_HEAD, "POST": H1_M_POST, "PUT": H1_M_PUT,
                           "DELETE": H1_M_DELETE, "OPTIONS": H1_M_OPTIONS, "TRACE": H1_M_TRACE,
                           "CONNECT": H1_M_CONNECT, "PATCH": H1_M_PATCH}
cdef dict MATCH_OPS = {"exact": MATCH_EXACT, "prefix": MATCH_PREFIX, "suffix": MATCH_SUFFIX,
                       "contains": MATCH_CONTAINS, "regex": MATCH_REGEX, "present": MATCH_PRESENT}


cdef enum match_list:              # where a rule is filed: index of a group or bucket * 4 + one of these
    MATCH_ANY = 0
    MATCH_LOOSE = 1
    MATCH_AT = 2
    MATCH_BELOW = 3


cdef uint64_t match_chain(const uint64_t *key, const uint8_t *text, size_t n, uint32_t *depth) noexcept nogil:
    """The hash that match_path has at the end of the text, and the number of segments up to there."""
    cdef const uint8_t *p = text
    cdef const uint8_t *end = text + n
    cdef uint64_t h = key[0]
    depth[0] = 0
    while p < end:
        if p[0] == 47:
            p += 1
        h = fp_hash_segment(h, &p, end, key)
        depth[0] += 1
    return h


cdef class MatchGroup:
    """A group in the making."""
    cdef uint32_t id
    cdef match_group_t c
    cdef dict whole                # text of an exact path or whole segments -> bucket
    cdef dict prefixes             # text of a plain byte prefix -> bucket


cdef class MatchBuild:
    """A table in the making: what is in C arrays at the end grows here in bytearrays of the same structs."""
    cdef uint64_t key[3]
    cdef list groups               # MatchGroup
    cdef dict host_groups          # pattern -> MatchGroup
    cdef dict texts                # bytes -> offset in text
    cdef dict regexes              # pattern -> index; the automata are in `automata`
    cdef list automata             # addresses of regex_t, owned
    cdef bytearray text
    cdef bytearray buckets
    cdef bytearray hosts
    cdef bytearray rules
    cdef bytearray predicates
    cdef bytearray filed           # uint32 per rule: match_list
    cdef bint host_predicates

    def __init__(self):
        self.groups, self.automata = [], []
        self.buckets, self.hosts = bytearray(), bytearray()
        self.host_groups, self.texts, self.regexes = {}, {}, {}
        self.text, self.rules, self.predicates, self.filed = bytearray(), bytearray(), bytearray(), bytearray()

    cdef uint32_t put_text(self, bytes text) except? 0xffffffff:
        at = self.texts.get(text)
        if at is None:
            at = self.texts[text] = len(self.text)
            if at + len(text) > 0xfffffff0:
                raise ValueError("a route table has at most 4 GiB of text")
            self.text += text
        return at

    cdef MatchGroup add_group(self):
        cdef MatchGroup g = MatchGroup()
        g.id = len(self.groups)
        g.whole, g.prefixes = {}, {}
        self.groups.append(g)
        return g

    cdef int name_group(self, str pattern, MatchGroup g) except -1:
        """Gives the group a host pattern: 'a.com', '*.a.com', 'a.*' or '*'."""
        cdef str low = pattern.lower()
        cdef bytes text
        cdef match_host_t host
        cdef uint8_t op = MATCH_EXACT
        if low in self.host_groups:
            raise ValueError(f"host {pattern!r} is there twice")
        self.host_groups[low] = g
        if low == "*":
            return 0
        if low.startswith("*."):
            op, low = MATCH_SUFFIX, low[2:]
        elif low.endswith(".*"):
            op, low = MATCH_PREFIX, low[:len(low) - 2]
        if op != MATCH_PREFIX and low.endswith("."):
            low = low[:len(low) - 1]
        text = low.encode()
        if not text or b"*" in text or len(text) > MATCH_MAX_HOST:
            raise ValueError(f"{pattern!r} is no host pattern: 'a.com', '*.a.com', 'a.*' or '*', at most {MATCH_MAX_HOST} bytes")
        memset(&host, 0, sizeof(host))
        host.text, host.text_len, host.op, host.group = self.put_text(text), <uint16_t>len(text), op, g.id
        self.hosts += (<char *>&host)[:sizeof(host)]
        return 0

    cdef uint32_t bucket_of(self, MatchGroup g, bytes text, bint is_prefix) except? 0xffffffff:
        cdef dict known = g.prefixes if is_prefix else g.whole
        cdef match_bucket_t b
        index = known.get(text)
        if index is None:
            index = known[text] = len(self.buckets) // sizeof(b)
            memset(&b, 0, sizeof(b))
            b.group, b.text, b.text_len, b.is_prefix = g.id, self.put_text(text), <uint32_t>len(text), is_prefix
            self.buckets += (<char *>&b)[:sizeof(b)]
        return index

    cdef int add_predicate(self, uint8_t subject, str name, str kind, object value, bint invert) except -1:
        cdef match_predicate_t p
        cdef bytes text
        memset(&p, 0, sizeof(p))
        p.subject, p.invert = subject, invert
        if kind == "segment" and subject == MATCH_PATH:
            p.op = MATCH_SEGMENT
        elif kind == "methods":
            p.op = MATCH_ONE_OF
        elif kind in MATCH_OPS:
            p.op = MATCH_OPS[kind]
        else:
            raise ValueError(f"no kind of matcher: {kind!r}")
        if p.op == MATCH_REGEX:
            index = self.regexes.get(value)
            if index is None:
                self.automata.append(<size_t>regex_make(value))
                index = self.regexes[value] = len(self.automata) - 1
            p.text = index
        elif p.op != MATCH_PRESENT:
            text = value.encode()
            p.text, p.text_len = self.put_text(text), <uint32_t>len(text)
        if name is not None:
            text = name.encode()
            if not text:
                raise ValueError("a matcher without a name")
            p.name, p.name_len = self.put_text(text), <uint32_t>len(text)
            if subject == MATCH_HEADER:
                p.hid = <uint8_t>h1_name(<const uint8_t *><const char *>text, len(text))
                if p.hid >= HID_LAST:
                    p.hid = HID_OTHER
        self.predicates += (<char *>&p)[:sizeof(p)]
        return 0

    cdef uint32_t file_path(self, MatchGroup g, object path, bint invert) except? 0xffffffff:
        """The list for a rule of this path; a predicate is added if the list does not say all."""
        cdef uint32_t depth = 0
        cdef bytes text
        if path is None:
            return g.id * 4 + MATCH_ANY
        kind, value = path
        if kind == "segment":
            if not value.startswith("/"):
                raise ValueError(f"path {value!r}: whole segments begin with /")
            if value.endswith("/"):
                value = value[:len(value) - 1]
        elif kind == "exact" and not value:
            raise ValueError("an exact path is not empty")
        if invert or kind not in ("exact", "segment", "prefix"):
            self.add_predicate(MATCH_PATH, None, kind, value, invert)
            return g.id * 4 + MATCH_LOOSE
        if not value:
            return g.id * 4 + MATCH_ANY
        text = value.encode()
        if kind == "exact":
            g.c.max_exact = max(g.c.max_exact, <uint32_t>len(text) + 1)
            return self.bucket_of(g, text, False) * 4 + MATCH_AT
        if kind == "segment":
            match_chain(self.key, <const uint8_t *><const char *>text, len(text), &depth)
            g.c.max_depth = max(g.c.max_depth, depth)
            g.c.depths |= <uint64_t>1 << min(depth, <uint32_t>63)
        return self.bucket_of(g, text, kind == "prefix") * 4 + MATCH_BELOW

    cdef int add_rule(self, MatchGroup g, object route, object host, void **routes) except -1:
        cdef match_rule_t rule
        cdef uint32_t filed
        cdef Py_ssize_t index = route["index"]
        cdef list others = []
        if index < 0:
            raise ValueError("a route's index is not negative")
        memset(&rule, 0, sizeof(rule))
        rule.route = routes[index]
        rule.predicates = <uint32_t>(len(self.predicates) // sizeof(match_predicate_t))
        if host is not None:
            value = host["value"]
            self.add_predicate(MATCH_HOST, None, host["kind"], value if host["kind"] == "regex" else value.lower(),
                               host.get("invert", False))
            self.host_predicates = True
        filed = self.file_path(g, route.get("path"), route.get("path_invert", False))
        methods = route.get("methods")
        rule.methods = 0xffff
        if methods is not None:
            if not methods:
                raise ValueError("an empty list of methods")
            rule.methods = 0
            for one in methods:
                if one in MATCH_METHODS:
                    rule.methods |= <uint16_t>(1 << <int>MATCH_METHODS[one])
                else:
                    others.append(one)
            if others:
                rule.methods |= 1 << H1_M_OTHER
                self.add_predicate(MATCH_METHOD, None, "methods", " ".join(others), False)
        for name, one in route.get("headers") or ():
            self.add_predicate(MATCH_HEADER, name.lower(), one["kind"], one.get("value", ""), one.get("invert", False))
        for name, one in route.get("query") or ():
            self.add_predicate(MATCH_QUERY, name, one["kind"], one.get("value", ""), one.get("invert", False))
        n = len(self.predicates) // sizeof(match_predicate_t) - rule.predicates
        if n > 0xffff:
            raise ValueError("a route has at most 65535 predicates")
        rule.n_predicates = <uint16_t>n
        self.rules += (<char *>&rule)[:sizeof(rule)]
        self.filed += (<char *>&filed)[:4]
        return 0

    cdef int add_ordered(self, object desc, void **routes) except -1:
        cdef MatchGroup g
        for route in desc["routes"]:
            host = route.get("host")
            pattern = host if isinstance(host, str) else "*"
            g = self.host_groups.get(pattern) or self.host_groups.get(pattern.lower())
            if g is None:
                g = self.add_group()
                self.name_group(pattern, g)
            self.add_rule(g, route, None if host is None or isinstance(host, str) else host, routes)
        return 0

    cdef int add_virtual_hosts(self, object desc, void **routes) except -1:
        cdef MatchGroup g
        for virtual_host in desc["virtual_hosts"]:
            g = self.add_group()
            for pattern in virtual_host["hosts"]:
                self.name_group(pattern, g)
            for route in virtual_host["routes"]:
                if route.get("host") is not None:
                    raise ValueError("a route of a virtual host has no host of its own")
                self.add_rule(g, route, None, routes)
        return 0

    cdef route_table_t *finish(self, bint ordered) except NULL:
        """Lays the table out in one block."""
        cdef MatchGroup g
        cdef list lengths = []
        for g in self.groups:
            g.c.lengths = len(lengths)
            lengths += sorted(set(map(len, g.prefixes)))
            g.c.n_lengths = len(lengths) - g.c.lengths
        cdef size_t n_rules = len(self.filed) // 4
        cdef size_t n_buckets = len(self.buckets) // sizeof(match_bucket_t)
        cdef size_t n_hosts = len(self.hosts) // sizeof(match_host_t)
        cdef size_t bucket_slots = 2
        cdef size_t host_slots = 2
        if n_rules > 0x3fffffff or n_buckets > 0x3fffffff or len(self.groups) > 0x3fffffff:
            raise ValueError("a route table has at most 2^30 routes")
        while bucket_slots < 2 * n_buckets + 1:
            bucket_slots *= 2
        while host_slots < 2 * n_hosts + 1:
            host_slots *= 2
        # Structs with 8-byte members first; every size up to `text` is a multiple of 4.
        cdef size_t rules = (sizeof(route_table_t) + 7) & ~<size_t>7
        cdef size_t groups = rules + len(self.rules)
        cdef size_t regexes = groups + len(self.groups) * sizeof(match_group_t)
        cdef size_t buckets = regexes + len(self.automata) * sizeof(void *)
        cdef size_t predicates = buckets + len(self.buckets)
        cdef size_t slots = predicates + len(self.predicates)
        cdef size_t hosts = slots + bucket_slots * sizeof(match_slot_t)
        cdef size_t names = hosts + len(self.hosts)
        cdef size_t order = names + host_slots * sizeof(match_slot_t)
        cdef size_t sizes = order + n_rules * sizeof(uint32_t)
        cdef size_t text = sizes + len(lengths) * sizeof(uint32_t)
        cdef size_t total = text + len(self.text)
        cdef uint8_t *block = <uint8_t *>calloc(1, total)
        if block == NULL:
            raise MemoryError
        cdef route_table_t *t = <route_table_t *>block
        t.rules = <match_rule_t *>(block + rules)
        t.groups = <match_group_t *>(block + groups)
        t.regexes = <regex_t **>(block + regexes)
        t.buckets = <match_bucket_t *>(block + buckets)
        t.predicates = <match_predicate_t *>(block + predicates)
        t.bucket_slots = <match_slot_t *>(block + slots)
        t.hosts = <match_host_t *>(block + hosts)
        t.host_slots = <match_slot_t *>(block + names)
        t.order = <uint32_t *>(block + order)
        t.lengths = <uint32_t *>(block + sizes)
        t.text = block + text
        t.bytes = total
        t.ordered = ordered
        t.has_names = n_hosts > 0 or self.host_predicates
        memcpy(t.key, self.key, sizeof(t.key))
        t.bucket_mask, t.host_mask = <uint32_t>(bucket_slots - 1), <uint32_t>(host_slots - 1)
        t.n_rules, t.n_buckets, t.n_hosts = <uint32_t>n_rules, <uint32_t>n_buckets, <uint32_t>n_hosts
        t.n_groups, t.n_regexes = <uint32_t>len(self.groups), <uint32_t>len(self.automata)
        t.n_predicates = <uint32_t>(len(self.predicates) // sizeof(match_predicate_t))
        memcpy(t.rules, <const char *>self.rules, len(self.rules))
        memcpy(t.buckets, <const char *>self.buckets, len(self.buckets))
        memcpy(t.hosts, <const char *>self.hosts, len(self.hosts))
        memcpy(t.predicates, <const char *>self.predicates, len(self.predicates))
        memcpy(t.text, <const char *>self.text, len(self.text))
        cdef uint32_t i
        for i in range(<uint32_t>len(lengths)):
            t.lengths[i] = lengths[i]
        for i in range(t.n_groups):
            g = self.groups[i]
            t.groups[i] = g.c
        for i in range(t.n_regexes):
            t.regexes[i] = <regex_t *><size_t>self.automata[i]
            t.bytes += t.regexes[i].bytes
        self.automata = []                   # now the table owns them
        g = self.host_groups.get("*")
        t.any_host = g.id + 1 if g is not None else 0
        match_fill_slots(t)
        match_fill_order(t, <const uint32_t *><const char *>self.filed)
        return t


cdef void match_put_slot(match_slot_t *slots, uint32_t mask, uint64_t h, uint32_t entry) noexcept nogil:
    cdef uint32_t i = <uint32_t>h & mask
    while slots[i].entry:
        i = (i + 1) & mask
    slots[i].tag = <uint32_t>(h >> 32)
    slots[i].entry = entry + 1


cdef uint64_t match_prefix_chain(const route_table_t *t, const match_bucket_t *b) noexcept nogil:
    """The hash that match_prefixes has at the end of the bucket's text."""
    cdef const match_group_t *g = t.groups + b.group
    cdef const uint8_t *text = t.text + b.text
    cdef uint64_t h = t.key[0]
    cdef uint32_t i
    cdef uint32_t done = 0
    for i in range(g.lengths, g.lengths + g.n_lengths):
        if t.lengths[i] > b.text_len:
            break
        h = fp_hash(h, text + done, t.lengths[i] - done, t.key)
        done = t.lengths[i]
    return h


cdef uint64_t match_label_chain(route_table_t *t, const match_host_t *host) noexcept nogil:
    """The hash that match_suffixes or match_host_prefixes has for this pattern; notes its depth."""
    cdef const uint8_t *text = t.text + host.text
    cdef uint64_t h = t.key[0]
    cdef uint32_t depth = 0
    cdef uint32_t n = host.text_len
    cdef uint32_t i
    cdef uint32_t at = n if host.op == MATCH_SUFFIX else 0       # where the labels done end, or the next begins
    if host.op == MATCH_SUFFIX:
        i = n
        while True:
            if i == 0 or text[i - 1] == 46:
                h = fp_hash(h, text + i, at - i, t.key)
                depth += 1
                if i == 0:
                    break
                at = i - 1
            i -= 1
        t.suffix_max = max(t.suffix_max, depth)
        t.suffix_depths |= <uint64_t>1 << min(depth, <uint32_t>63)
    else:
        for i in range(n + 1):
            if i == n or text[i] == 46:
                h = fp_hash(h, text + at, i - at, t.key)
                depth += 1
                at = i + 1
        t.prefix_max = max(t.prefix_max, depth)
        t.prefix_depths |= <uint64_t>1 << min(depth, <uint32_t>63)
    return h


cdef void match_fill_slots(route_table_t *t) noexcept nogil:
    cdef const match_bucket_t *b
    cdef const match_host_t *host
    cdef uint64_t h
    cdef uint32_t i, depth
    for i in range(t.n_buckets):
        b = t.buckets + i
        h = match_prefix_chain(t, b) if b.is_prefix else match_chain(t.key, t.text + b.text, b.text_len, &depth)
        match_put_slot(t.bucket_slots, t.bucket_mask, match_bucket_hash(t, h, b.group), i)
    for i in range(t.n_hosts):
        host = t.hosts + i
        if host.op == MATCH_EXACT:
            h = fp_hash(t.key[0], t.text + host.text, host.text_len, t.key)
        else:
            h = match_label_chain(t, host)
        match_put_slot(t.host_slots, t.host_mask, match_host_hash(t, h, host.op), i)


cdef match_span_t *match_list_at(route_table_t *t, uint32_t filed) noexcept nogil:
    cdef uint32_t i = filed >> 2
    filed &= 3
    if filed == MATCH_ANY:
        return &t.groups[i].any
    if filed == MATCH_LOOSE:
        return &t.groups[i].loose
    return &t.buckets[i].exact if filed == MATCH_AT else &t.buckets[i].below


cdef uint32_t match_place(match_span_t *span, uint32_t at) noexcept nogil:
    """Gives a list its place, as long as its `end` says; it is filled from there."""
    cdef uint32_t n = span.end
    span.at = span.end = at
    return at + n


cdef void match_fill_order(route_table_t *t, const uint32_t *filed) noexcept nogil:
    """Counts the lists, places them one after the other, and fills them in order."""
    cdef uint32_t i
    cdef uint32_t at = 0
    cdef match_span_t *span
    for i in range(t.n_rules):
        match_list_at(t, filed[i]).end += 1
    for i in range(t.n_groups):
        at = match_place(&t.groups[i].any, at)
        at = match_place(&t.groups[i].loose, at)
    for i in range(t.n_buckets):
        at = match_place(&t.buckets[i].exact, at)
        at = match_place(&t.buckets[i].below, at)
    for i in range(t.n_rules):
        span = match_list_at(t, filed[i])
        t.order[span.end] = i
        span.end += 1


cdef route_table_t *table_build(object desc, void **routes) except NULL:
    """The table of a description; the route of index i is routes[i], which the table borrows. May raise ValueError.

    desc: {'mode': 'ordered' | 'virtual_hosts', 'routes': [route] | 'virtual_hosts': [{'hosts': [pattern], 'routes': [route]}]}
    route: {'host': None | pattern | matcher, 'path': None | (kind, text), 'path_invert': bool, 'methods': None | [name],
            'headers': [(name, matcher)], 'query': [(name, matcher)], 'index': i}; kind: 'exact', 'segment' (as many whole
            segments), 'prefix' (bytes), 'suffix', 'contains' or 'regex'; matcher: {'kind', 'value', 'invert'}
    """
    cdef MatchBuild build = MatchBuild()
    cdef bytes seed = os.urandom(24)
    memcpy(build.key, <const char *>seed, 24)
    build.key[1] |= 1
    build.key[2] |= 1
    try:
        if desc["mode"] == "ordered":
            build.add_ordered(desc, routes)
        elif desc["mode"] == "virtual_hosts":
            build.add_virtual_hosts(desc, routes)
        else:
            raise ValueError(f"no mode of a route table: {desc['mode']!r}")
        return build.finish(desc["mode"] == "ordered")
    finally:
        for automaton in build.automata:
            free(<void *><size_t>automaton)


cdef void table_free(route_table_t *t) noexcept nogil:
    cdef uint32_t i
    if t == NULL:
        return
    for i in range(t.n_regexes):
        free(t.regexes[i])
    free(t)
