# The core: one translation unit, so that calls between its parts stay static and inlinable.
#
# The contents, in the order in which a request meets them. No logic stands here. Layouts are in the .pxd files, types.pxd
# first; what other extensions may use is in _core.pxd. docs/decisions/0001-data-path.md says why it is built so.

cimport cython

include "core/sys.pxd"             # externs of libc and the kernel
include "core/types.pxd"           # READ FIRST: worker, listener, conn, stream, route, cluster, endpoint, plan
include "core/mem.pyx"             # slabs, buffers, pipes
include "core/timer.pyx"           # deadlines
include "core/stats.pyx"           # counters and histograms

include "core/listener.pyx"        # accept
include "core/conn.pyx"            # bytes in and out of a socket, readiness
include "core/h1_parse.pyx"        # HTTP/1 heads and chunked bodies as spans over the bytes received
include "core/down.pyx"            # downstream conn: heads become streams, one at a time
include "core/stream.pyx"          # the exchange, from head to finish
include "core/regex.pyx"           # a regular expression as an automaton
include "core/match.pyx"           # head -> route
include "core/head.pyx"            # filters, edits, and answers of our own
include "core/protect.pyx"         # limits, the retry budget, ejection
include "core/balance.pyx"         # route -> cluster -> endpoint
include "core/pool.pyx"            # endpoint -> upstream conn, idle or new; another attempt
include "core/up.pyx"              # upstream conn: response heads
include "core/forward.pyx"         # bodies both ways, tunnels, splice
include "core/log.pyx"             # a record of it for the access log
include "core/finish.pyx"          # the one exit of every stream
include "core/worker.pyx"          # the loop around it all

include "core/match_build.pyx"     # route tables from descriptions
include "core/plan.pyx"            # plans from descriptions
include "core/log_format.pyx"      # records of the access log become lines
include "core/face.pyx"            # Core, as the policy layer sees it
include "core/pyparse.pyx"         # parser and table for Python: tests and fuzzing
include "core/pymatch.pyx"
