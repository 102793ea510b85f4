# The core: one translation unit, so that calls between its parts stay static and inlinable.
#
# The contents, in the order in which a request meets them. No logic stands here. Layouts are in the .pxd of the same
# name; what other extensions may use is in _core.pxd.

include "core/h1_parse.pyx"        # HTTP/1 heads and chunked bodies as spans over the bytes received
include "core/pyparse.pyx"         # the parser for Python: tests and fuzzing
