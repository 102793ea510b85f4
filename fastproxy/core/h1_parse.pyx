# HTTP/1 heads and chunked bodies read strictly, in one pass, as spans over the bytes received.
#
# Every verdict is independent of how the bytes were split: a head is read from its first byte each time, from left to
# right, and "more bytes needed" is said only where the bytes at hand run out. So what a longer prefix says never differs
# from what a shorter one said. What is refused here never reaches an upstream; nothing is repaired, because two readers
# of one repaired message are what request smuggling is made of (RFC 9112 11.2).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memchr, memcmp, memmove, memset

cdef extern from "core/scan.h" nogil:
    enum:
        FP_TOKEN
        FP_TEXT
        FP_HOST
    const uint8_t fp_class[256]
    int fp_hex(uint8_t c)
    bint fp_is_crlf(const uint8_t *p)
    bint fp_is_colon_blank(const uint8_t *p)
    void fp_zero(void *at, size_t n)
    bint fp_eq8(const uint8_t *p, const char *text)
    bint fp_fold_eq(const uint8_t *p, const char *lower, size_t n)
    bint fp_fold_same(const uint8_t *p, const uint8_t *q, size_t n)
    const uint8_t *fp_scan_class(const uint8_t *p, const uint8_t *end, uint8_t bits)
    const uint8_t *fp_scan_text(const uint8_t *base, const uint8_t *p, const uint8_t *end)
    const uint8_t *fp_scan_name(const uint8_t *base, const uint8_t *p, const uint8_t *end)
    const uint8_t *fp_scan_authority(const uint8_t *base, const uint8_t *p, const uint8_t *end)
    const uint8_t *fp_scan_target(const uint8_t *base, const uint8_t *p, const uint8_t *end,
                                  const uint8_t **query, int *odd)

cdef enum:
    H1_MAX_HEAD = 1 << 24          # a head length must fit an int, whatever the configured limit
    H1_MAX_METHOD = 32             # the longest registered method has 17 bytes (UPDATEREDIRECTREF)
    H1_MAX_EMPTY_LINES = 4         # before a request line (RFC 9112 2.2 asks for at least one)
    H1_MAX_NAMED = 32              # fields named by Connection; bounds the search to 32 x H1_MAX_FIELDS
    H1_MAX_SIZE_LINE = 256         # a chunk-size line with its extensions and CRLF
    H1_MAX_EXTENSIONS = 4096       # extension bytes of a body beyond 1 per 16 of data (Go: 16 KiB, CVE-2023-39326)
    H1_MAX_TRAILER_BYTES = 8192
    H1_MAX_TRAILERS = 64
    # Internal to h1_name: kinds of field that have no hid.
    H1_HOP_ONLY = 32               # hop-by-hop (RFC 9110 7.6.1, 11.7)
    H1_NOT_IN_TRAILERS = 33        # dropped when it comes as a trailer (RFC 9110 6.5.1)
    H1_ALWAYS_HOP = (1 << HID_CONNECTION | 1 << HID_KEEP_ALIVE | 1 << HID_PROXY_CONNECTION | 1 << HID_TE
                     | 1 << HID_UPGRADE | 1 << HID_HTTP2_SETTINGS)


# ---- names ----------------------------------------------------------------------------------------------------------

cdef inline int h1_name(const uint8_t *p, size_t n) noexcept nogil:
    """The h1_hid of a field name, H1_HOP_ONLY, or HID_OTHER. `p` holds token bytes only."""
    cdef uint8_t c = p[0] | 0x20
    if n == 2:
        if fp_fold_eq(p, b"te", 2): return HID_TE
    elif n == 3:
        if fp_fold_eq(p, b"via", 3): return HID_VIA
    elif n == 4:
        if fp_fold_eq(p, b"host", 4): return HID_HOST
        if fp_fold_eq(p, b"date", 4): return HID_DATE
    elif n == 6:
        if fp_fold_eq(p, b"expect", 6): return HID_EXPECT
    elif n == 7:
        if c == 117 and fp_fold_eq(p, b"upgrade", 7): return HID_UPGRADE
        if c == 116 and fp_fold_eq(p, b"trailer", 7): return HID_TRAILER
    elif n == 10:
        if c == 99 and fp_fold_eq(p, b"connection", 10): return HID_CONNECTION
        if c == 107 and fp_fold_eq(p, b"keep-alive", 10): return HID_KEEP_ALIVE
    elif n == 12:
        if c == 120 and fp_fold_eq(p, b"x-request-id", 12): return HID_X_REQUEST_ID
        if c == 109 and fp_fold_eq(p, b"max-forwards", 12): return HID_MAX_FORWARDS
    elif n == 14:
        if c == 99 and fp_fold_eq(p, b"content-length", 14): return HID_CONTENT_LENGTH
        if c == 104 and fp_fold_eq(p, b"http2-settings", 14): return HID_HTTP2_SETTINGS
    elif n == 15:
        if c == 120 and fp_fold_eq(p, b"x-forwarded-for", 15): return HID_X_FORWARDED_FOR
    elif n == 16:
        if c == 112 and fp_fold_eq(p, b"proxy-connection", 16): return HID_PROXY_CONNECTION
        if c == 120 and fp_fold_eq(p, b"x-fastproxy-hops", 16): return HID_X_FASTPROXY_HOPS
    elif n == 17:
        if c == 116 and fp_fold_eq(p, b"transfer-encoding", 17): return HID_TRANSFER_ENCODING
        if c == 120 and fp_fold_eq(p, b"x-forwarded-proto", 17): return HID_X_FORWARDED_PROTO
    elif n == 18:
        if c == 112 and fp_fold_eq(p, b"proxy-authenticate", 18): return H1_HOP_ONLY
    elif n == 19:
        if c == 112 and fp_fold_eq(p, b"proxy-authorization", 19): return H1_HOP_ONLY
    return HID_OTHER


cdef int h1_trailer_name(const uint8_t *p, size_t n) noexcept nogil:
    """As h1_name, with H1_NOT_IN_TRAILERS for what must not be merged from a trailer section (RFC 9110 6.5.1):
    message framing, routing, request modifiers, authentication, response control, and how content is to be read."""
    cdef int hid = h1_name(p, n)
    if hid != HID_OTHER:
        return hid
    if n >= 8 and fp_fold_eq(p, b"content-", 8):
        # RFC 9530 2: the one content field that is meant for trailers
        return HID_OTHER if n == 14 and fp_fold_eq(p, b"content-digest", 14) else H1_NOT_IN_TRAILERS
    if n >= 3 and fp_fold_eq(p, b"if-", 3): return H1_NOT_IN_TRAILERS
    if n >= 6 and fp_fold_eq(p, b"proxy-", 6): return H1_NOT_IN_TRAILERS
    if n >= 11 and fp_fold_eq(p, b"x-forwarded", 11): return H1_NOT_IN_TRAILERS
    if n >= 12 and fp_fold_eq(p, b"x-fastproxy-", 12): return H1_NOT_IN_TRAILERS
    if n == 3 and fp_fold_eq(p, b"age", 3): return H1_NOT_IN_TRAILERS
    if n == 4 and fp_fold_eq(p, b"vary", 4): return H1_NOT_IN_TRAILERS
    if n == 5 and fp_fold_eq(p, b"range", 5): return H1_NOT_IN_TRAILERS
    if n == 6 and (fp_fold_eq(p, b"cookie", 6) or fp_fold_eq(p, b"pragma", 6)): return H1_NOT_IN_TRAILERS
    if n == 7 and (fp_fold_eq(p, b"expires", 7) or fp_fold_eq(p, b"warning", 7)): return H1_NOT_IN_TRAILERS
    if n == 8 and (fp_fold_eq(p, b"location", 8) or fp_fold_eq(p, b"if-match", 8)): return H1_NOT_IN_TRAILERS
    if n == 9 and (fp_fold_eq(p, b"forwarded", 9) or fp_fold_eq(p, b"x-real-ip", 9)): return H1_NOT_IN_TRAILERS
    if n == 10 and fp_fold_eq(p, b"set-cookie", 10): return H1_NOT_IN_TRAILERS
    if n == 11 and fp_fold_eq(p, b"retry-after", 11): return H1_NOT_IN_TRAILERS
    if n == 13 and (fp_fold_eq(p, b"authorization", 13) or fp_fold_eq(p, b"cache-control", 13)): return H1_NOT_IN_TRAILERS
    if n == 16 and fp_fold_eq(p, b"www-authenticate", 16): return H1_NOT_IN_TRAILERS
    if n == 19 and fp_fold_eq(p, b"authentication-info", 19): return H1_NOT_IN_TRAILERS
    return HID_OTHER


cdef bint h1_is_lookalike(const uint8_t *p, size_t n) noexcept nogil:
    """Whether an upstream that reads '_' as '-' (CGI, WSGI) would take this name for one that means something to us."""
    cdef uint8_t name[20]
    cdef size_t i
    if n > 19 or memchr(p, 95, n) == NULL:
        return False
    for i in range(n):
        name[i] = 45 if p[i] == 95 else p[i]
    return h1_name(name, n) != HID_OTHER


# ---- field lines ----------------------------------------------------------------------------------------------------

cdef const uint8_t *h1_field_line(const uint8_t *base, const uint8_t *p, const uint8_t *end, h1_field_t *f,
                                         int *code) noexcept nogil:
    """One `name: value CRLF` at p (p < end) -> the byte after it; or NULL, with the error or 0 (bytes ran out) in code.

    RFC 9112 5: token, colon at once, value of HTAB, SP, VCHAR and obs-text, CRLF. No folding: a blank at p is an error.
    Offsets in f count from base. f.hid and f.flags are left alone.
    """
    cdef const uint8_t *q = fp_scan_name(base, p, end)
    cdef const uint8_t *v
    if q == end or q[0] != 58:
        q = fp_scan_class(q, end, FP_TOKEN)
        if q == end:
            code[0] = 0
            return NULL
        if q[0] != 58:
            code[0] = E_BAD_LINE_END if q[0] == 10 else E_BAD_FIELD
            return NULL
        if h1_is_lookalike(p, q - p):
            code[0] = E_BAD_FIELD
            return NULL
    if q == p or q - p > 0xffff:
        code[0] = E_BAD_FIELD
        return NULL
    f.name = <uint32_t>(p - base)
    f.name_len = <uint16_t>(q - p)
    v = q + 1
    if v < end and v[0] == 32:
        v += 1
    q = fp_scan_text(base, v, end)
    if end - q < 2:
        if q == end or q[0] == 13:
            code[0] = 0
            return NULL
    elif q[0] == 13 and q[1] == 10:
        end = q
        while v < end and (v[0] == 32 or v[0] == 9):
            v += 1
        while v < end and ((end - 1)[0] == 32 or (end - 1)[0] == 9):
            end -= 1
        f.value = <uint32_t>(v - base)
        f.value_len = <uint32_t>(end - v)
        return q + 2
    code[0] = E_BAD_LINE_END if q[0] == 13 or q[0] == 10 else E_BAD_FIELD
    return NULL


cdef inline const uint8_t *h1_field_section(const uint8_t *base, const uint8_t *p, const uint8_t *end,
                                            uint32_t max_fields, h1_head_t *head, uint32_t *once, uint32_t *more,
                                            int *code) noexcept nogil:
    """All field lines and the empty line -> the byte after it; or NULL as h1_field_line.

    `once` gets the bits of the hids seen, `more` of those seen repeatedly.
    """
    cdef uint32_t n = 0, seen = 0, again = 0, bit
    cdef size_t name_len
    cdef const uint8_t *q
    cdef const uint8_t *v
    cdef bint plain = False
    cdef int hid = HID_OTHER
    cdef h1_field_t *f = &head.fields[0]
    head.fields_at = <uint32_t>(p - base)
    while True:
        if p == end:
            code[0] = 0
            return NULL
        if p[0] == 13:
            if end - p < 2:
                code[0] = 0
                return NULL
            if p[1] != 10:
                code[0] = E_BAD_LINE_END
                return NULL
            break
        if n == max_fields:
            code[0] = E_TOO_MANY_FIELDS
            return NULL
        # Nearly every line: a plain name, one blank, a value without blanks around it. h1_field_line reads the others.
        q = fp_scan_name(base, p, end)
        v = q + 2
        if v < end and fp_is_colon_blank(q) and v[0] > 32 and <size_t>(q - p - 1) < 0xffff:
            name_len = q - p
            q = fp_scan_text(base, v, end)
            if end - q >= 2 and fp_is_crlf(q) and (q - 1)[0] > 32:
                f.name = <uint32_t>(p - base)
                f.name_len = <uint16_t>name_len
                f.value = <uint32_t>(v - base)
                f.value_len = <uint32_t>(q - v)
                hid = h1_name(p, name_len)
                p = q + 2
                plain = True
        if not plain:
            p = h1_field_line(base, p, end, f, code)
            if p == NULL:
                return NULL
            hid = h1_name(base + f.name, f.name_len)
        plain = False
        n += 1
        f.flags = 0
        if hid != HID_OTHER:
            if hid == H1_HOP_ONLY:
                hid = HID_OTHER
                f.flags = FIELD_HOP
            else:
                bit = <uint32_t>1 << hid
                again |= seen & bit
                seen |= bit
                head.at[hid] = <uint8_t>n
                if bit & H1_ALWAYS_HOP:
                    f.flags = FIELD_HOP
        f.hid = <uint8_t>hid
        f += 1
    head.n_fields = <uint16_t>n
    once[0] = seen
    more[0] = again
    return p + 2


cdef inline const h1_field_t *h1_field_of(const h1_head_t *head, int hid) noexcept nogil:
    """The last field of that hid; it must be there."""
    return &head.fields[head.at[hid] - 1]


# ---- what fields mean -----------------------------------------------------------------------------------------------

cdef inline const uint8_t *h1_list_member(const uint8_t **pos, const uint8_t *end, size_t *n) noexcept nogil:
    """The next member of a comma-separated list, blanks trimmed, empty ones skipped (RFC 9110 5.6.1.2); NULL: no more.
    Quoted strings are not known here: the lists read are lists of tokens."""
    cdef const uint8_t *p = pos[0]
    cdef const uint8_t *a
    cdef const uint8_t *b
    while p < end:
        a = p
        while p < end and p[0] != 44:
            p += 1
        b = p
        if p < end:
            p += 1
        while a < b and (a[0] == 32 or a[0] == 9):
            a += 1
        while a < b and ((b - 1)[0] == 32 or (b - 1)[0] == 9):
            b -= 1
        if a < b:
            pos[0] = p
            n[0] = b - a
            return a
    return NULL


cdef int h1_connection_field(const uint8_t *base, h1_head_t *head, const h1_field_t *f, int *named) noexcept nogil:
    """One Connection field (RFC 9110 7.6.1) -> flags into head, FIELD_HOP onto the fields named; 0 or an error code."""
    cdef const uint8_t *p = base + f.value
    cdef const uint8_t *end = p + f.value_len
    cdef const uint8_t *name
    cdef size_t n = 0
    cdef uint32_t i
    cdef int hid
    cdef h1_field_t *other
    while True:
        name = h1_list_member(&p, end, &n)
        if name == NULL:
            return 0
        if fp_scan_class(name, name + n, FP_TOKEN) != name + n:
            return E_BAD_CONNECTION
        if n == 5 and fp_fold_eq(name, b"close", 5):
            head.flags |= H1_F_CLOSE
            continue
        if n == 10 and fp_fold_eq(name, b"keep-alive", 10):
            head.flags |= H1_F_KEEP_ALIVE
            continue
        if n == 7 and fp_fold_eq(name, b"upgrade", 7):
            head.flags |= H1_F_UPGRADE       # taken back by the caller if there is no Upgrade field
            continue
        head.flags |= H1_F_NAMED
        named[0] += 1
        if named[0] > H1_MAX_NAMED:
            return E_BAD_CONNECTION
        hid = h1_name(name, n)
        # Never by the sender's wish: framing, Host, and what the proxy adds or counts on. Transfer-Encoding stays
        # because the body is relayed with its framing.
        if hid in (HID_HOST, HID_CONTENT_LENGTH, HID_TRANSFER_ENCODING, HID_X_FORWARDED_FOR, HID_X_FORWARDED_PROTO,
                   HID_X_REQUEST_ID, HID_X_FASTPROXY_HOPS, HID_VIA, HID_DATE, HID_MAX_FORWARDS):
            continue
        for i in range(head.n_fields):
            other = &head.fields[i]
            if other.name_len == n and fp_fold_same(base + other.name, name, n):
                other.flags |= FIELD_HOP


cdef inline int h1_connection(const uint8_t *base, h1_head_t *head, uint32_t once, uint32_t more) noexcept nogil:
    """All Connection fields and whether the conn ends after this message (RFC 9112 9.3); 0 or an error code."""
    cdef const h1_field_t *f
    cdef int code, named = 0
    cdef uint32_t i
    if once >> HID_CONNECTION & 1:
        f = h1_field_of(head, HID_CONNECTION)
        if more >> HID_CONNECTION & 1:
            for i in range(head.n_fields):
                if head.fields[i].hid == HID_CONNECTION:
                    code = h1_connection_field(base, head, &head.fields[i], &named)
                    if code:
                        return code
        elif f.value_len == 10 and fp_fold_eq(base + f.value, b"keep-alive", 10):
            head.flags |= H1_F_KEEP_ALIVE
        else:
            code = h1_connection_field(base, head, f, &named)
            if code:
                return code
    if head.minor == 0 and not head.flags & H1_F_KEEP_ALIVE:
        head.flags |= H1_F_CLOSE
    return 0


cdef int h1_upgrade(const uint8_t *base, h1_head_t *head, uint32_t once, uint32_t more) noexcept nogil:
    """Keep H1_F_UPGRADE only for a well-formed Upgrade field in HTTP/1.1 (RFC 9110 7.8); 0 or an error code."""
    cdef const h1_field_t *f
    cdef const uint8_t *p
    cdef const uint8_t *q
    cdef const uint8_t *end
    cdef const uint8_t *name
    cdef size_t n = 0, members = 0
    if not once >> HID_UPGRADE & 1 or head.minor == 0:
        head.flags &= ~H1_F_UPGRADE
        return 0
    if more >> HID_UPGRADE & 1:
        return E_BAD_CONNECTION              # the route is asked about one field; a second could carry h2c past it
    f = h1_field_of(head, HID_UPGRADE)
    p = base + f.value
    end = p + f.value_len
    while True:
        name = h1_list_member(&p, end, &n)
        if name == NULL:
            return 0 if members else E_BAD_CONNECTION
        members += 1
        q = fp_scan_class(name, name + n, FP_TOKEN)
        if q != name and q != name + n and q[0] == 47:      # token "/" token
            n -= (q + 1) - name
            name = q + 1
            q = fp_scan_class(name, name + n, FP_TOKEN)
        if n == 0 or q != name + n:
            return E_BAD_CONNECTION


cdef bint h1_has_trailers(const uint8_t *base, const h1_head_t *head) noexcept nogil:
    """Whether a TE field lists `trailers` (RFC 9110 10.1.4)."""
    cdef const uint8_t *p
    cdef const uint8_t *end
    cdef const uint8_t *name
    cdef size_t n = 0
    cdef uint32_t i
    for i in range(head.n_fields):
        if head.fields[i].hid == HID_TE:
            p = base + head.fields[i].value
            end = p + head.fields[i].value_len
            while True:
                name = h1_list_member(&p, end, &n)
                if name == NULL:
                    break
                if n == 8 and fp_fold_eq(name, b"trailers", 8):
                    return True
    return False


cdef inline int h1_framing(const uint8_t *base, h1_head_t *head, uint32_t once, uint32_t more) noexcept nogil:
    """Content-Length and Transfer-Encoding (RFC 9112 6) -> head.body, head.content_length; 0 or an error code.

    One field of the two, once, with nothing to interpret: `chunked` in HTTP/1.1, or digits. Repeated and listed equal
    lengths, which RFC 9110 8.6 lets a recipient merge, are refused: what is forwarded would differ from what was read.
    """
    cdef const h1_field_t *f
    cdef const uint8_t *p
    cdef uint64_t length = 0
    cdef uint32_t i
    if not once & (1 << HID_CONTENT_LENGTH | 1 << HID_TRANSFER_ENCODING):
        return 0
    if once >> HID_TRANSFER_ENCODING & 1:
        f = h1_field_of(head, HID_TRANSFER_ENCODING)
        if once >> HID_CONTENT_LENGTH & 1:
            return E_FRAMING_CONFLICT
        if head.minor == 0 or more >> HID_TRANSFER_ENCODING & 1 or f.value_len != 7 \
                or not fp_fold_eq(base + f.value, b"chunked", 7):
            return E_BAD_TRANSFER_ENCODING
        head.body = H1_BODY_CHUNKED
        return 0
    f = h1_field_of(head, HID_CONTENT_LENGTH)
    if more >> HID_CONTENT_LENGTH & 1 or f.value_len == 0 or f.value_len > 19:
        return E_BAD_CONTENT_LENGTH
    p = base + f.value
    for i in range(f.value_len):
        if <uint8_t>(p[i] - 48) > 9:
            return E_BAD_CONTENT_LENGTH
        length = length * 10 + <uint8_t>(p[i] - 48)
    if length >> 63:
        return E_BAD_CONTENT_LENGTH
    head.content_length = length
    if length:
        head.body = H1_BODY_LENGTH
    return 0


# ---- authority and path ---------------------------------------------------------------------------------------------

cdef bint h1_is_ipv6(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """IPv6address of RFC 3986 3.2.2, without zone."""
    cdef int groups = 0, digits, value, dots
    cdef bint gap = False
    cdef const uint8_t *group
    if end - p >= 2 and p[0] == 58 and p[1] == 58:
        gap = True
        p += 2
    while p < end:
        group = p
        digits = 0
        while p < end and fp_hex(p[0]) >= 0:
            p += 1
            digits += 1
        if p < end and p[0] == 46:           # the last 32 bits as dotted decimal
            p = group
            dots = 0
            while True:
                value = 0
                digits = 0
                while p < end and <uint8_t>(p[0] - 48) <= 9 and digits < 4:
                    value = value * 10 + <uint8_t>(p[0] - 48)
                    digits += 1
                    p += 1
                if digits == 0 or value > 255 or (digits > 1 and (p - digits)[0] == 48):
                    return False
                if p == end:
                    break
                dots += 1
                if p[0] != 46 or dots > 3:
                    return False
                p += 1
            if dots != 3:
                return False
            groups += 2
            break
        if digits == 0 or digits > 4:
            return False
        groups += 1
        if p == end:
            break
        if p[0] != 58 or end - p < 2:
            return False
        p += 1
        if p[0] == 58:
            if gap:
                return False
            gap = True
            p += 1
    return groups <= 7 if gap else groups == 8


cdef bint h1_is_authority(const uint8_t *base, const uint8_t *p, const uint8_t *end, bint need_port) noexcept nogil:
    """host [":" port] (RFC 9110 4.2, 7.2): a non-empty name, IPv4, or [IPv6]; no userinfo, no zone; port 0 to 65535."""
    cdef const uint8_t *q
    cdef uint32_t port = 0
    cdef int high, low
    cdef uint8_t c
    if p == end:
        return False
    if p[0] == 91:
        q = <const uint8_t *>memchr(p, 93, end - p)
        if q == NULL or not h1_is_ipv6(p + 1, q):
            return False
        q += 1
    else:
        q = fp_scan_authority(base, p, end)
        while q < end and q[0] != 58:
            if fp_class[q[0]] & FP_HOST:
                q += 1
                continue
            # pct-encoded: of a plain name character or of UTF-8, never of a delimiter
            if q[0] != 37 or end - q < 3:
                return False
            high = fp_hex(q[1])
            low = fp_hex(q[2])
            if high < 0 or low < 0:
                return False
            c = <uint8_t>(high << 4 | low)
            if c < 0x80 and not fp_class[c] & FP_HOST:
                return False
            q += 3
        if q == p:
            return False
    if q == end:
        return not need_port
    if q[0] != 58 or end - q > 6 or (need_port and end - q == 1):
        return False
    q += 1
    while q < end:
        if <uint8_t>(q[0] - 48) > 9:
            return False
        port = port * 10 + <uint8_t>(q[0] - 48)
        q += 1
    return port <= 65535


cdef int h1_path(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Path hygiene -> 0, E_BAD_TARGET for a broken percent escape, E_BAD_PATH for what an upstream may resolve otherwise.

    Refused: "." and ".." as a whole segment, each dot plain or as %2e, with or without ";parameters" (Tomcat strips
    these before it resolves dots); backslash and %5c; %00; overlong forms of UTF-8 (%c0%ae and %e0%80%ae are "." to a lax
    decoder). %2F and "//" stay and equal no "/", but %2F ends a segment here: ..%2F is ../ to whom decodes first.
    """
    cdef bint fresh = True                   # at the first byte of a segment
    cdef const uint8_t *q
    cdef int dots, high, low, c
    while p < end:
        if fresh:
            fresh = False
            dots = 0
            q = p
            while q < end:
                if q[0] == 46:
                    q += 1
                elif end - q >= 3 and q[0] == 37 and q[1] == 50 and q[2] | 0x20 == 101:
                    q += 3
                else:
                    break
                dots += 1
                if dots > 2:
                    break
            if 1 <= dots <= 2:
                if q == end or q[0] == 47 or q[0] == 59:
                    return E_BAD_PATH
                if q[0] == 37 and end - q >= 3:
                    high = fp_hex(q[1])
                    low = fp_hex(q[2])
                    if high >= 0 and low >= 0 and (high << 4 | low) in (0x2f, 0x3b):
                        return E_BAD_PATH
        if p[0] == 47:
            fresh = True
        elif p[0] == 92:
            return E_BAD_PATH
        elif p[0] == 37:
            if end - p < 3:
                return E_BAD_TARGET
            high = fp_hex(p[1])
            low = fp_hex(p[2])
            if high < 0 or low < 0:
                return E_BAD_TARGET
            c = high << 4 | low
            if c == 0 or c == 0x5c:
                return E_BAD_PATH
            if (c | 1 == 0xc1 or c == 0xe0 or c == 0xf0) and end - p >= 6 and p[3] == 37:
                high = fp_hex(p[4])          # of what must be a continuation byte
                if high == 8 or (c != 0xf0 and high == 9) or (c < 0xc2 and 10 <= high <= 11):
                    return E_BAD_PATH
            fresh = c == 0x2f
            p += 2
        p += 1
    return 0


# ---- requests -------------------------------------------------------------------------------------------------------

cdef inline int h1_method_of(const uint8_t *p, size_t n) noexcept nogil:
    """Methods are case-sensitive (RFC 9110 9.1): `get` is another method than `GET`."""
    if n == 3:
        if p[0] == 71 and p[1] == 69 and p[2] == 84: return H1_M_GET
        if p[0] == 80 and p[1] == 85 and p[2] == 84: return H1_M_PUT
    elif n == 4:
        if p[0] == 80 and p[1] == 79 and p[2] == 83 and p[3] == 84: return H1_M_POST
        if p[0] == 72 and p[1] == 69 and p[2] == 65 and p[3] == 68: return H1_M_HEAD
    elif n == 5:
        if memcmp(p, b"PATCH", 5) == 0: return H1_M_PATCH
        if memcmp(p, b"TRACE", 5) == 0: return H1_M_TRACE
    elif n == 6:
        if memcmp(p, b"DELETE", 6) == 0: return H1_M_DELETE
    elif n == 7:
        if memcmp(p, b"OPTIONS", 7) == 0: return H1_M_OPTIONS
        if memcmp(p, b"CONNECT", 7) == 0: return H1_M_CONNECT
    return H1_M_OTHER


cdef inline void h1_span(h1_span_t *span, const uint8_t *base, const uint8_t *p, const uint8_t *end) noexcept nogil:
    span.at = <uint32_t>(p - base)
    span.len = <uint32_t>(end - p)


cdef inline int h1_target(const uint8_t *base, const uint8_t *p, const uint8_t *end, const uint8_t *query, bint odd,
                          h1_head_t *head) noexcept nogil:
    """The request target p..end, not empty, of 0x21..0x7e (RFC 9112 3.2) -> host, path, query; 0 or an error code.

    `query` is its first '?' or NULL; `odd` says that bytes other than harmless ones may be there (fp_scan_target).
    """
    cdef const uint8_t *stop
    cdef int code
    h1_span(&head.target, base, p, end)
    if odd and memchr(p, 35, end - p) != NULL:
        return E_BAD_TARGET                  # a fragment is never sent (RFC 9110 7.1)
    if head.method == H1_M_CONNECT:
        if not h1_is_authority(base, p, end, True):
            return E_BAD_TARGET              # authority-form only, with its port (RFC 9110 9.3.6)
        head.host = head.target
        return 0
    if p[0] != 47:
        if p[0] == 42 and end - p == 1:
            if head.method != H1_M_OPTIONS:
                if head.method_text.len == 3 and memcmp(base + head.method_text.at, b"PRI", 3) == 0:
                    return E_NOT_HTTP        # the HTTP/2 preface (RFC 9113 3.4)
                return E_BAD_TARGET
            head.flags |= H1_F_ASTERISK
            head.path = head.target
            return 0
        # ':' and '/' have bit 5 set and no control characters are here, so folding is exact for them too
        if end - p > 7 and fp_fold_eq(p, b"http://", 7):
            p += 7
        elif end - p > 8 and fp_fold_eq(p, b"https://", 8):
            p += 8
        else:
            return E_BAD_TARGET
        head.flags |= H1_F_ABSOLUTE
        stop = p
        while stop < end and stop[0] != 47 and stop[0] != 63:
            stop += 1
        if not h1_is_authority(base, p, stop, False):
            return E_BAD_TARGET
        h1_span(&head.host, base, p, stop)
        p = stop
    if query != NULL:
        head.has_query = 1
        h1_span(&head.query, base, query + 1, end)
        end = query
    h1_span(&head.path, base, p, end)
    if odd:
        code = h1_path(p, end)
        if code:
            return code
    return 0


cdef int h1_version(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """What is wrong at p..end, where `HTTP/1.0` or `HTTP/1.1` was wanted: 0 if nothing so far."""
    cdef const char *text = b"HTTP/1."
    cdef Py_ssize_t i
    for i in range(7):
        if p + i == end:
            return 0
        if p[i] != <uint8_t>text[i]:
            return E_BAD_VERSION if i >= 5 and <uint8_t>(p[5] - 48) <= 9 else E_BAD_REQUEST_LINE
    if p + 7 == end:
        return 0
    return 0 if p[7] == 48 or p[7] == 49 else E_BAD_VERSION


cdef int h1_request_line(const uint8_t *base, const uint8_t **pos, const uint8_t *end, h1_head_t *head) noexcept nogil:
    """method SP target SP version CRLF (RFC 9112 3), one SP each -> 1 with *pos behind it, 0: bytes ran out, or -code."""
    cdef const uint8_t *p = pos[0]
    cdef const uint8_t *q
    cdef const uint8_t *query = NULL
    cdef int code, odd = 0
    if p == end:
        return 0
    if p[0] == 0x16:
        return -E_NOT_HTTP                   # a TLS handshake record
    head.start = <uint32_t>(p - base)
    q = p
    while q < end and fp_class[q[0]] & FP_TOKEN:
        q += 1
    if q - p > H1_MAX_METHOD:
        return -E_BAD_METHOD
    if q == end:
        return 0
    if q[0] != 32 or q == p:
        if q[0] == 10:
            return -E_BAD_LINE_END
        return -(E_BAD_REQUEST_LINE if q == p or q[0] == 13 else E_BAD_METHOD)
    h1_span(&head.method_text, base, p, q)
    head.method = <uint8_t>h1_method_of(p, q - p)
    p = q + 1
    q = fp_scan_target(base, p, end, &query, &odd)
    if q == end:
        return 0
    if q[0] != 32 or q == p:
        if q[0] == 10:
            return -E_BAD_LINE_END
        return -(E_BAD_REQUEST_LINE if q == p or q[0] == 13 or q[0] == 9 else E_BAD_TARGET)
    code = h1_target(base, p, q, query, odd, head)
    if code:
        return -code
    p = q + 1
    if end - p < 10 or not fp_eq8(p, b"HTTP/1.1"):
        code = h1_version(p, end)
        if code or end - p < 9:
            return -code
    head.minor = p[7] - 48
    p += 8
    if p[0] != 13:
        if p[0] == 10:
            return -E_BAD_LINE_END
        return -(E_BAD_VERSION if <uint8_t>(p[0] - 48) <= 9 or p[0] == 46 else E_BAD_REQUEST_LINE)
    if end - p < 2:
        return 0
    if p[1] != 10:
        return -E_BAD_LINE_END
    pos[0] = p + 2
    return 1


cdef inline void h1_clear(h1_head_t *head) noexcept nogil:
    """Everything but the fields, which n_fields bounds."""
    fp_zero(head, <uint8_t *>&head.fields[0] - <uint8_t *>head)


cdef int h1_parse_request(const uint8_t *buf, size_t n, const h1_limits_t *limits, h1_head_t *head) noexcept nogil:
    """The request head at buf -> its length (the body starts there), 0: more bytes needed, or -error_code.

    On 0 and on an error, head holds nothing of use. A head that fills limits.head_bytes without its end is an error at
    once, so a buffer of that size always suffices.
    """
    cdef size_t room = min(limits.head_bytes, <size_t>H1_MAX_HEAD)
    cdef const uint8_t *p = buf
    cdef const uint8_t *end = buf + min(n, room)
    cdef const uint8_t *line_end
    cdef const h1_field_t *f
    cdef uint32_t once = 0, more = 0, i
    cdef int code = 0
    cdef bint full = n >= room
    h1_clear(head)
    while p < end and (p[0] == 13 or p[0] == 10):
        if p[0] == 10:
            return -E_BAD_LINE_END
        if p - buf == 2 * H1_MAX_EMPTY_LINES:
            return -E_BAD_REQUEST_LINE
        if end - p < 2:
            return -E_HEAD_TOO_LARGE if full else 0
        if p[1] != 10:
            return -E_BAD_LINE_END
        p += 2
    line_end = end
    if <size_t>(end - p) > limits.line_bytes:
        line_end = p + limits.line_bytes
    code = h1_request_line(buf, &p, line_end, head)
    if code <= 0:
        if code < 0:
            return code
        # The line may be as long as the head (the default): then it is the line that is too long.
        return -E_LINE_TOO_LONG if <size_t>(line_end - p) >= limits.line_bytes or full else 0
    p = h1_field_section(buf, p, end, min(limits.fields, <uint32_t>H1_MAX_FIELDS), head, &once, &more, &code)
    if p == NULL:
        if code:
            return -code
        return -E_HEAD_TOO_LARGE if full else 0
    head.len = <uint32_t>(p - buf)

    # RFC 9112 3.2: one Host, also beside an absolute-form target, whose authority then counts.
    if once >> HID_HOST & 1:
        f = h1_field_of(head, HID_HOST)
        if more >> HID_HOST & 1:
            return -E_BAD_HOST
        if not h1_is_authority(buf, buf + f.value, buf + f.value + f.value_len, False) \
                and not (head.minor == 0 and f.value_len == 0):
            return -E_BAD_HOST
        if head.host.len == 0:
            head.host.at = f.value
            head.host.len = f.value_len
    elif head.minor:
        return -E_BAD_HOST

    code = h1_framing(buf, head, once, more)
    if code:
        return -code
    if head.body != H1_BODY_NONE and (head.method == H1_M_TRACE or head.method == H1_M_CONNECT):
        # RFC 9110 9.3.6, 9.3.8: neither has content; after a CONNECT such bytes would be the tunnel's
        return -(E_BAD_TRANSFER_ENCODING if head.body == H1_BODY_CHUNKED else E_BAD_CONTENT_LENGTH)
    code = h1_connection(buf, head, once, more)
    if code:
        return -code
    if head.flags & H1_F_UPGRADE:
        code = h1_upgrade(buf, head, once, more)
        if code:
            return -code
    if once & (1 << HID_TE | 1 << HID_EXPECT):
        if once >> HID_TE & 1 and h1_has_trailers(buf, head):
            head.flags |= H1_F_TE_TRAILERS
        if once >> HID_EXPECT & 1:
            for i in range(head.n_fields):
                f = &head.fields[i]
                if f.hid == HID_EXPECT and (f.value_len != 12 or not fp_fold_eq(buf + f.value, b"100-continue", 12)):
                    return -E_BAD_EXPECT     # RFC 9110 10.1.1: 417 may answer any other expectation
            if head.minor:
                head.flags |= H1_F_EXPECT_100      # ignored in HTTP/1.0 (RFC 9110 10.1.1)
    return <int>head.len


cdef inline bint h1_may_decide(const uint8_t *buf, size_t seen, size_t n, const h1_limits_t *limits) noexcept nogil:
    """Whether a head of which `seen` bytes did not suffice deserves another reading now that it has n (> seen).

    Reading starts at the first byte each time, so a head that trickles in would cost its length squared. Beyond the first
    KiB only a line end, a byte that no head holds, or a bound that was reached can bring a verdict worth having at once;
    a head is complete, and a line too long, only at one of these. So the readings of a large head are bounded by its lines.
    """
    cdef const uint8_t *end = buf + n
    cdef const uint8_t *p = buf + seen
    if n <= 1024 or n >= limits.head_bytes:
        return True
    # the request line may begin behind the empty lines that are skipped
    if n >= limits.line_bytes and seen < limits.line_bytes + 2 * <size_t>H1_MAX_EMPTY_LINES:
        return True
    while True:
        p = fp_scan_text(buf, p, end)
        if p == end:
            return False
        if p[0] != 13:
            return True
        p += 1


# ---- responses ------------------------------------------------------------------------------------------------------

cdef int h1_status_line(const uint8_t *base, const uint8_t **pos, const uint8_t *end, h1_head_t *head) noexcept nogil:
    """version SP 3DIGIT [SP reason] CRLF (RFC 9112 4) -> 1 with *pos behind it, 0: bytes ran out, or -code.
    The SP before an absent reason may be missing: many upstreams leave it out, and nothing can be misread."""
    cdef const uint8_t *p = pos[0]
    cdef const uint8_t *q
    cdef int code = h1_version(p, end), status = 0
    cdef Py_ssize_t i
    if code or end - p < 9:
        return -code
    if p[8] != 32:
        return -E_BAD_REQUEST_LINE
    head.minor = p[7] - 48
    p += 9
    for i in range(3):
        if p + i == end:
            return 0
        if <uint8_t>(p[i] - 48) > 9:
            return -E_BAD_REQUEST_LINE
        status = status * 10 + p[i] - 48
    if status < 100 or status > 599:
        return -E_BAD_REQUEST_LINE           # RFC 9110 15: other values are invalid
    head.status = <uint16_t>status
    p += 3
    if p == end:
        return 0
    if p[0] != 32 and p[0] != 13:
        return -E_BAD_REQUEST_LINE
    if p[0] == 32:
        p += 1
    q = fp_scan_text(base, p, end)
    if q == end:
        return 0
    if q[0] != 13:
        return -E_BAD_LINE_END
    if end - q < 2:
        return 0
    if q[1] != 10:
        return -E_BAD_LINE_END
    h1_span(&head.reason, base, p, q)
    pos[0] = q + 2
    return 1


cdef inline int h1_response_head(const uint8_t *buf, size_t n, const h1_limits_t *limits, h1_head_t *head) noexcept nogil:
    """h1_parse_response with the parser's own error codes."""
    cdef size_t room = min(limits.head_bytes, <size_t>H1_MAX_HEAD)
    cdef const uint8_t *p = buf
    cdef const uint8_t *end = buf + min(n, room)
    cdef uint32_t once = 0, more = 0, i
    cdef int code
    cdef bint full = n >= room
    code = h1_status_line(buf, &p, end, head)
    if code <= 0:
        return -E_HEAD_TOO_LARGE if code == 0 and full else code
    p = h1_field_section(buf, p, end, min(limits.fields, <uint32_t>H1_MAX_FIELDS), head, &once, &more, &code)
    if p == NULL:
        return -E_HEAD_TOO_LARGE if code == 0 and full else -code
    head.len = <uint32_t>(p - buf)

    # RFC 9112 6.3. Fields that are wrong are wrong also where there is no body.
    code = h1_framing(buf, head, once, more)
    if code:
        return -code
    if head.status < 200 or head.status == 204:
        # RFC 9110 8.6, RFC 9112 6.1: neither field may be there. 204 with a length is common, and harmless once the
        # field is gone; a coding says that bytes follow where none may.
        if head.body == H1_BODY_CHUNKED:
            return -E_BAD_TRANSFER_ENCODING
        if head.body == H1_BODY_LENGTH:
            head.flags |= H1_F_CLOSE         # who says so may send it
        head.body = H1_BODY_NONE
    elif head.method == H1_M_CONNECT and head.status < 300:
        head.body = H1_BODY_NONE             # a tunnel: both fields are to be ignored (RFC 9110 9.3.6)
    elif head.method == H1_M_HEAD or head.status == 304:
        head.body = H1_BODY_NONE             # both fields tell of a body that is not sent: they are forwarded
        once &= ~(1 << HID_CONTENT_LENGTH | 1 << HID_TRANSFER_ENCODING)
    else:
        if head.body == H1_BODY_NONE and not once >> HID_CONTENT_LENGTH & 1:
            head.body = H1_BODY_CLOSE
            head.flags |= H1_F_CLOSE
        once &= ~(1 << HID_CONTENT_LENGTH | 1 << HID_TRANSFER_ENCODING)
    if once & (1 << HID_CONTENT_LENGTH | 1 << HID_TRANSFER_ENCODING):
        head.content_length = 0
        for i in range(head.n_fields):
            if head.fields[i].hid == HID_CONTENT_LENGTH or head.fields[i].hid == HID_TRANSFER_ENCODING:
                head.fields[i].flags |= FIELD_HOP
    code = h1_connection(buf, head, once, more)
    if code:
        return -code
    if head.flags & H1_F_UPGRADE:
        if head.status == 101:
            code = h1_upgrade(buf, head, once, more)
            if code:
                return -code
        elif not once >> HID_UPGRADE & 1:
            head.flags &= ~H1_F_UPGRADE      # elsewhere it only advertises (RFC 9110 7.8) and is dropped anyway
    return <int>head.len


cdef int h1_parse_response(const uint8_t *buf, size_t n, const h1_limits_t *limits, uint8_t request_method,
                           h1_head_t *head) noexcept nogil:
    """The response head at buf, to a request of that h1_method -> as h1_parse_request, errors being the upstream's.

    Stricter than RFC 9112 asks of a proxy: blanks before a colon and folded lines could be repaired (5.1, 5.2), and
    are refused; no upstream in use sends them.
    """
    cdef int got
    h1_clear(head)
    head.method = request_method
    got = h1_response_head(buf, n, limits, head)
    if got >= 0:
        return got
    if got == -E_HEAD_TOO_LARGE or got == -E_TOO_MANY_FIELDS:
        return -E_UPSTREAM_HEAD_TOO_LARGE
    return -E_UPSTREAM_PROTOCOL


# ---- chunked bodies -------------------------------------------------------------------------------------------------
#
#   SIZE --size line--> DATA --left == 0--> DATA_END --CRLF--> SIZE
#   SIZE --size line "0"--> TRAILERS --trailer line--> TRAILERS --empty line--> DONE

cdef inline int64_t h1_size_line(h1_chunk_t *c, const uint8_t *p, const uint8_t *end, size_t *keep) noexcept nogil:
    """chunk-size [ext] CRLF (RFC 9112 7.1) -> length of the line, *keep of its digits and c.left set; 0: bytes ran out; or -1.

    Extensions are dropped, so their inner grammar can confuse nobody; what matters is where the line ends.
    """
    cdef const uint8_t *stop = p + min(<size_t>(end - p), <size_t>H1_MAX_SIZE_LINE)
    cdef const uint8_t *q = p
    cdef const uint8_t *ext
    cdef uint64_t size = 0
    cdef int digit
    while q < stop:
        digit = fp_hex(q[0])
        if digit < 0:
            break
        if q - p == 16:
            return -1
        size = size << 4 | <uint64_t>digit
        q += 1
    if q == stop:
        return 0
    if q == p or size >> 63:
        return -1
    ext = q
    if q[0] != 13:
        while q < stop and (q[0] == 32 or q[0] == 9):    # BWS, only before a ';'
            q += 1
        if q < stop:
            if q[0] != 59:
                return -1
            q = fp_scan_text(p, q, stop)
    if stop - q < 2:
        if q < stop and q[0] != 13:
            return -1
        return -1 if stop - p == H1_MAX_SIZE_LINE else 0
    if q[0] != 13 or q[1] != 10:
        return -1
    # Room for extensions is earned by data, so that endless one-byte chunks with long extensions end early.
    c.overhead -= <uint32_t>min(size >> 4, <uint64_t>c.overhead)
    c.overhead += <uint32_t>(q - ext)
    if c.overhead > H1_MAX_EXTENSIONS:
        return -1
    c.left = size
    keep[0] = ext - p
    return q + 2 - p


cdef inline int64_t h1_trailer_line(h1_chunk_t *c, const uint8_t *p, const uint8_t *end, bint *drop) noexcept nogil:
    """One trailer line -> its length, *drop if it may not be relayed; 0: bytes ran out; or -1."""
    cdef const uint8_t *stop = p + min(<size_t>(end - p), <size_t>(H1_MAX_TRAILER_BYTES - c.overhead))
    cdef const uint8_t *q
    cdef h1_field_t f
    cdef int code = 0
    if c.n_trailers == H1_MAX_TRAILERS or p == stop:
        return -1
    q = h1_field_line(p, p, stop, &f, &code)
    if q == NULL:
        return -1 if code or c.overhead + <size_t>(stop - p) >= H1_MAX_TRAILER_BYTES else 0
    c.n_trailers += 1
    c.overhead += <uint32_t>(q - p)
    drop[0] = h1_trailer_name(p, f.name_len) != HID_OTHER
    return q - p


cdef inline void h1_keep(uint8_t *p, size_t *kept, size_t at, size_t n) noexcept nogil:
    """Relay p[at:at+n]: append it to p[0:*kept], which never overtakes it."""
    if kept[0] != at:
        memmove(p + kept[0], p + at, n)
    kept[0] += n


cdef inline int64_t h1_chunk_error(bint is_response) noexcept nogil:
    # Constants alone: a C enum is unsigned, and minus one of it would be a large count.
    if is_response:
        return -<int64_t>E_UPSTREAM_PROTOCOL
    return -<int64_t>E_BAD_CHUNK


cdef int64_t h1_chunk_feed(h1_chunk_t *c, uint8_t *p, size_t n, size_t *kept, bint is_response) noexcept nogil:
    """Read p[0:n] of a chunked body -> bytes consumed, or -error_code. c starts zeroed.

    What is to be relayed is compacted to p[0:*kept] in place: size lines without extensions, data, CRLFs, the allowed
    trailers. With nothing to drop no byte moves and *kept is what was consumed. An incomplete size or trailer line stays
    unconsumed: the caller gives it again with more bytes behind it, and keeps p[consumed:n] before it does. After the
    last empty line c.state is CHUNK_DONE and nothing more is consumed.
    """
    cdef size_t r = 0, keep = 0, take
    cdef int64_t got
    cdef bint drop = False
    kept[0] = 0
    while c.state != CHUNK_DONE and r < n:
        if c.state == CHUNK_DATA:
            take = n - r if c.left > n - r else <size_t>c.left
            h1_keep(p, kept, r, take)
            r += take
            c.left -= take
            if c.left == 0:
                c.state = CHUNK_DATA_END
        elif c.state == CHUNK_DATA_END:
            if p[r] != 13 or (n - r >= 2 and p[r + 1] != 10):
                return h1_chunk_error(is_response)
            if n - r < 2:
                break
            h1_keep(p, kept, r, 2)
            r += 2
            c.state = CHUNK_SIZE
        elif c.state == CHUNK_SIZE:
            got = h1_size_line(c, p + r, p + n, &keep)
            if got < 0:
                return h1_chunk_error(is_response)
            if got == 0:
                break
            h1_keep(p, kept, r, keep)
            r += <size_t>got
            h1_keep(p, kept, r - 2, 2)
            c.data += c.left
            c.state = CHUNK_DATA
            if c.left == 0:
                c.state = CHUNK_TRAILERS
                c.overhead = 0               # from here on it counts trailers
        else:
            if p[r] == 13:
                if n - r >= 2 and p[r + 1] != 10:
                    return h1_chunk_error(is_response)
                if n - r < 2:
                    break
                h1_keep(p, kept, r, 2)
                r += 2
                c.state = CHUNK_DONE
                break
            got = h1_trailer_line(c, p + r, p + n, &drop)
            if got < 0:
                return h1_chunk_error(is_response)
            if got == 0:
                break
            if not drop:
                h1_keep(p, kept, r, <size_t>got)
            r += <size_t>got
    return <int64_t>r
