# A request as match and filters see it, and the compiled route table: layouts only (bodies: match.pyx).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

# A request head, whatever its protocol. Borrowed: valid while the bytes and h1 are where they were.
cdef struct view_t:
    const uint8_t *base            # h1: what the offsets in h1 count from
    h1_head_t *h1                  # NULL when the request did not come as HTTP/1
    const uint8_t *method
    const uint8_t *host            # as received: may hold :port and upper case
    const uint8_t *path            # as received, without the query; "/" for an absolute-form target without path
    const uint8_t *query           # without the '?'
    uint32_t method_len
    uint32_t host_len
    uint32_t path_len
    uint32_t query_len
    uint8_t method_id              # h1_method; only H1_M_OTHER makes match read the text

cdef enum match_why:               # how far a request came that no route took
    MATCH_FOUND = 0
    MATCH_NO_HOST = 1
    MATCH_NO_PATH = 2              # its host has routes, none of this path
    MATCH_NO_RULE = 3              # a host and path fit, the method, a header or a query parameter did not

cdef enum match_subject:
    MATCH_HOST = 0
    MATCH_PATH = 1
    MATCH_METHOD = 2
    MATCH_HEADER = 3
    MATCH_QUERY = 4

cdef enum match_op:
    MATCH_EXACT = 0
    MATCH_PREFIX = 1
    MATCH_SUFFIX = 2
    MATCH_CONTAINS = 3
    MATCH_REGEX = 4
    MATCH_PRESENT = 5
    MATCH_SEGMENT = 6              # paths only: the text, then the end or a '/'
    MATCH_ONE_OF = 7               # methods only: the text is names with a blank between

cdef struct match_predicate_t:
    uint32_t text                  # in route_table_t.text; MATCH_REGEX: index in regexes
    uint32_t text_len
    uint32_t name                  # header (lower case) or query parameter; equal names have equal offsets
    uint32_t name_len
    uint8_t subject                # match_subject
    uint8_t op                     # match_op
    uint8_t invert
    uint8_t hid                    # header: h1_hid

cdef struct match_rule_t:          # one route, in order; what its place in the table does not say yet
    void *route
    uint32_t predicates            # first, in route_table_t.predicates
    uint16_t n_predicates
    uint16_t methods               # bit per h1_method; H1_M_OTHER stands for MATCH_ONE_OF among the predicates

cdef struct match_span_t:          # a run of route_table_t.order
    uint32_t at
    uint32_t end

cdef struct match_bucket_t:        # the rules of one group for one path text
    uint32_t group
    uint32_t text
    uint32_t text_len
    uint32_t is_prefix             # the text stands for a plain byte prefix; `below` is used
    match_span_t exact             # the path is the text
    match_span_t below             # the path begins with it, as a prefix or as whole segments

cdef struct match_group_t:         # the routes of one virtual host, or of one host pattern of an ordered table
    uint64_t depths                # bit d: a path of d segments (63: or more) has a `below` list
    uint32_t max_depth
    uint32_t max_exact             # 1 + length of the longest exact path; 0: none
    uint32_t lengths               # first of the lengths of its plain byte prefixes, ascending, in route_table_t.lengths
    uint32_t n_lengths
    match_span_t any               # rules for every path
    match_span_t loose             # rules whose path is a predicate: suffix, contains, regex, inverted

cdef struct match_host_t:
    uint32_t text
    uint16_t text_len
    uint8_t op                     # MATCH_EXACT; MATCH_SUFFIX ("*." text) or MATCH_PREFIX (text ".*"), at a dot
    uint8_t unused
    uint32_t group

cdef struct match_slot_t:          # of an open-addressed hash table, at most half full
    uint32_t tag                   # upper half of the hash
    uint32_t entry                 # 1 + index; 0: free

cdef struct route_table_t:         # immutable; shared by all workers
    bint ordered                   # all hosts that fit compete by order; else the best host alone has a say
    bint has_names                 # some route depends on the host
    uint32_t any_host              # 1 + group of '*'; 0: none
    uint32_t n_rules
    uint32_t n_groups
    uint32_t n_buckets
    uint32_t n_hosts
    uint32_t n_predicates
    uint32_t n_regexes
    uint32_t bucket_mask           # slots - 1
    uint32_t host_mask
    uint64_t suffix_depths         # bit d: a "*." pattern of d labels (63: or more)
    uint64_t prefix_depths
    uint32_t suffix_max            # its highest depth
    uint32_t prefix_max
    uint64_t key[3]                # of the hashes, see match.h; new for each table
    uint64_t bytes                 # all of it
    match_rule_t *rules
    match_predicate_t *predicates
    uint32_t *order                # lists of rules, ascending
    match_group_t *groups
    match_bucket_t *buckets
    match_slot_t *bucket_slots
    match_host_t *hosts
    match_slot_t *host_slots
    uint32_t *lengths
    regex_t **regexes
    uint8_t *text
