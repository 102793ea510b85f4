# The route table and regular expressions as Python sees them, for tests: no path of a request leads through here.
#
# What is given is copied into blocks of exactly its size, so that a sanitizer sees a read of one byte too many.


cdef uint8_t *match_copy(bytes text) except NULL:
    cdef uint8_t *block = <uint8_t *>malloc(len(text) or 1)
    if block == NULL:
        raise MemoryError
    memcpy(block, <const char *>text, len(text))
    return block


cdef tuple MATCH_WHY = ("found", "no_host", "no_path", "no_rule")


cdef class RouteTable:
    """A table of a description as in table_build; a route is told by its index."""
    cdef route_table_t *table
    cdef void **routes
    cdef public str why            # of the last look-up: found | no_host | no_path | no_rule

    def __cinit__(self, desc):
        fp_own(1)
        groups = [desc] if desc["mode"] == "ordered" else desc["virtual_hosts"]
        n = 1 + max((route["index"] for group in groups for route in group["routes"]), default=0)
        self.routes = <void **>calloc(n, sizeof(void *))
        if self.routes == NULL:
            raise MemoryError
        for i in range(n):
            self.routes[i] = <void *><size_t>(i + 1)
        self.table = table_build(desc, self.routes)

    def __dealloc__(self):
        fp_own(-1)
        table_free(self.table)
        free(self.routes)

    @property
    def bytes(self):
        return self.table.bytes

    cdef object look_up(self, view_t *view):
        cdef char why = 0
        cdef void *route = table_match(self.table, view, &why)
        self.why = MATCH_WHY[<int>why]
        return None if route == NULL else <size_t>route - 1

    def match(self, bytes method=b"GET", bytes host=b"", bytes path=b"/", bytes query=b"", headers=()):
        """The index of the route, or None. headers: [(name, value)] of bytes. Nothing is parsed or refused."""
        cdef view_t view
        cdef h1_head_t head
        cdef h1_field_t *f
        cdef bytearray text = bytearray()
        cdef int hid
        if len(headers) > H1_MAX_FIELDS:
            raise ValueError("too many headers")
        memset(&view, 0, sizeof(view))
        memset(&head, 0, sizeof(head))
        for name, value in headers:
            f = &head.fields[head.n_fields]
            head.n_fields += 1
            hid = h1_name(name, len(name))
            f.hid = HID_OTHER if hid >= HID_LAST else hid
            head.at[f.hid] = head.n_fields
            f.name, f.name_len, f.value, f.value_len = len(text), len(name), len(text) + len(name), len(value)
            text += name + value
        view.method_id = MATCH_METHODS.get(method.decode("latin-1"), H1_M_OTHER)
        view.h1 = &head
        view.method_len, view.host_len, view.path_len, view.query_len = len(method), len(host), len(path), len(query)
        view.base = match_copy(bytes(text))
        view.method, view.host, view.path, view.query = match_copy(method), match_copy(host), match_copy(path), match_copy(query)
        try:
            return self.look_up(&view)
        finally:
            for block in (<size_t>view.base, <size_t>view.method, <size_t>view.host, <size_t>view.path, <size_t>view.query):
                free(<void *><size_t>block)

    def match_head(self, bytes data, uint32_t times=1):
        """The index of the route of a whole request head as received, or None. `times`: look-ups to do, for measuring."""
        cdef h1_limits_t limits
        cdef h1_head_t head
        cdef view_t view
        cdef uint32_t i
        limits.head_bytes, limits.line_bytes, limits.fields = 1 << 20, 1 << 20, 100
        cdef uint8_t *block = match_copy(data)
        cdef int got = h1_parse_request(block, len(data), &limits, &head)
        try:
            if got <= 0:
                raise ValueError(f"no request head: {got}")
            with nogil:
                view_from_h1(&view, block, &head)
                for i in range(1, times):
                    table_match(self.table, &view, NULL)
            return self.look_up(&view)
        finally:
            free(block)


cdef class Regex:
    """A pattern; ValueError says why it cannot be one."""
    cdef regex_t *regex

    def __cinit__(self, str pattern):
        fp_own(1)
        self.regex = regex_make(pattern)

    def __dealloc__(self):
        fp_own(-1)
        free(self.regex)

    @property
    def bytes(self):
        return self.regex.bytes

    def match(self, bytes text):
        """Whether the whole text matches."""
        cdef uint8_t *block = match_copy(text)
        try:
            return regex_match(self.regex, block, len(text))
        finally:
            free(block)
