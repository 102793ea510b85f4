# HTTP/1 heads and chunked bodies as spans over the bytes received: layouts only (bodies: h1_parse.pyx).
#
# Offsets count from the first byte of the buffer given to the parser, never pointers, so that a head
# stays valid when its bytes move. Nothing here allocates.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

cdef enum:
    H1_MAX_FIELDS = 128            # array bound; the configured limit (default 100, Envoy) is below it

cdef enum h1_body_kind:
    H1_BODY_NONE = 0               # no body follows
    H1_BODY_LENGTH = 1             # content_length bytes follow (0 is NONE)
    H1_BODY_CHUNKED = 2
    H1_BODY_CLOSE = 3              # responses only: until the upstream closes (RFC 9112 6.3 item 8)

cdef enum h1_method:
    H1_M_OTHER = 0
    H1_M_GET = 1
    H1_M_HEAD = 2
    H1_M_POST = 3
    H1_M_PUT = 4
    H1_M_DELETE = 5
    H1_M_OPTIONS = 6
    H1_M_TRACE = 7
    H1_M_CONNECT = 8
    H1_M_PATCH = 9

# Fields that the proxy itself reads or edits; every other field is HID_OTHER.
cdef enum h1_hid:
    HID_OTHER = 0
    HID_HOST = 1
    HID_CONNECTION = 2
    HID_CONTENT_LENGTH = 3
    HID_TRANSFER_ENCODING = 4
    HID_TE = 5
    HID_TRAILER = 6
    HID_UPGRADE = 7
    HID_KEEP_ALIVE = 8
    HID_PROXY_CONNECTION = 9
    HID_EXPECT = 10
    HID_MAX_FORWARDS = 11
    HID_X_FORWARDED_FOR = 12
    HID_X_FORWARDED_PROTO = 13
    HID_X_REQUEST_ID = 14
    HID_VIA = 15
    HID_HTTP2_SETTINGS = 16
    HID_DATE = 17
    HID_X_FASTPROXY_HOPS = 18      # loop guard, see head.pyx
    HID_LAST = 19

cdef enum h1_field_flag:
    FIELD_HOP = 1                  # not forwarded: hop-by-hop, or named by Connection (RFC 9110 7.6.1)

cdef enum h1_head_flag:
    H1_F_CLOSE = 1                 # the sender ends the conn after this message (Connection: close, 1.0 without keep-alive)
    H1_F_UPGRADE = 2               # Connection names upgrade and an Upgrade field is there
    H1_F_EXPECT_100 = 4
    H1_F_TE_TRAILERS = 8           # TE: trailers, named by Connection or not
    H1_F_ABSOLUTE = 16             # absolute-form target; host/path/query are the target's, Host is to be replaced
    H1_F_ASTERISK = 32
    H1_F_KEEP_ALIVE = 64           # Connection: keep-alive was there (matters for HTTP/1.0)
    H1_F_NAMED = 128               # Connection named at least one other field

cdef struct h1_span_t:
    uint32_t at                    # offset from the start of the buffer
    uint32_t len

cdef struct h1_field_t:
    uint32_t name                  # offset of the line; the line ends where the next field's begins
    uint32_t value                 # offset, blanks around it excluded
    uint32_t value_len
    uint16_t name_len
    uint8_t hid                    # h1_hid
    uint8_t flags                  # h1_field_flag

cdef struct h1_limits_t:
    uint32_t head_bytes            # whole head; over it 431 (60 KiB, Envoy)
    uint32_t line_bytes            # request line; over it 414 (as long as the head, Envoy)
    uint32_t fields                # number of fields; over it 431 (100, Envoy)

cdef struct h1_head_t:
    uint32_t start                 # offset of the start line (empty lines before a request line are skipped)
    uint32_t len                   # offset one past the empty line that ends the head
    uint32_t fields_at             # offset of the first field line (== len - 2 when there is none)
    uint16_t n_fields
    uint16_t status                # response only
    uint16_t flags                 # h1_head_flag
    uint8_t method                 # h1_method; of the request, also while parsing its response
    uint8_t minor                  # HTTP/1.minor: 0 or 1
    uint8_t body                   # h1_body_kind
    uint64_t content_length        # of H1_BODY_LENGTH; for a response to HEAD and a 304 what the field said
    h1_span_t method_text
    h1_span_t target               # as received
    h1_span_t host                 # authority: of the target in absolute-form, else of Host; validated; may hold :port
    h1_span_t path                 # path alone, as received; "/" of an absolute-form without path has len 0
    h1_span_t query                # after the '?', without it; has_query tells "?" from none
    h1_span_t reason               # response only
    uint8_t has_query
    uint8_t at[HID_LAST]           # hid -> 1 + index of its last field, 0 = absent
    h1_field_t fields[H1_MAX_FIELDS]

cdef enum h1_chunk_state:
    CHUNK_SIZE = 0                 # at the start of a size line
    CHUNK_DATA = 1
    CHUNK_DATA_END = 2             # at the CRLF after the data
    CHUNK_TRAILERS = 3             # after the last chunk's size line
    CHUNK_DONE = 4

cdef struct h1_chunk_t:
    uint64_t left                  # of the data of the present chunk
    uint64_t data                  # of all chunks so far, the present one whole
    uint32_t overhead              # bytes of extensions and trailers so far (bounded)
    uint16_t n_trailers
    uint8_t state                  # h1_chunk_state
