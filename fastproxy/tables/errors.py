"""Every way in which a request or a connection can fail: the one table that the core, the counters and the docs share.

A row: name -> (status, side, retry, sentence, flag)
  status  what the client gets when no response has begun; 0 = nothing can be said, the conn is closed
  side    who caused it: downstream | upstream | internal
  retry   never | unsent (only if no byte was sent) | stale (re-used conn, idempotent, wholly held) | connect
  sentence  the body of the reply, and the label `cause` is the name
  flag    Envoy's response flag, for access logs; LR where Envoy has none of its own
Order matters: the index is the code in the core. Append at the end of a group freely; codes are not stable across versions.
"""

ERRORS = {
    # HTTP/1 request heads (parser)
    "bad_request_line": (400, "downstream", "never", "malformed request line", "DPE"),
    "bad_method": (400, "downstream", "never", "malformed method", "DPE"),
    "bad_target": (400, "downstream", "never", "malformed request target", "DPE"),
    "bad_path": (400, "downstream", "never", "path holds a dot segment, a backslash or an encoded NUL", "DPE"),
    "bad_version": (505, "downstream", "never", "HTTP version not supported", "DPE"),
    "bad_field": (400, "downstream", "never", "malformed header field", "DPE"),
    "bad_line_end": (400, "downstream", "never", "line does not end in CRLF", "DPE"),
    "bad_host": (400, "downstream", "never", "missing, repeated or invalid Host", "DPE"),
    "bad_content_length": (400, "downstream", "never", "invalid Content-Length", "DPE"),
    "bad_transfer_encoding": (400, "downstream", "never", "invalid or unsupported Transfer-Encoding", "DPE"),
    "framing_conflict": (400, "downstream", "never", "both Content-Length and Transfer-Encoding", "DPE"),
    "bad_connection": (400, "downstream", "never", "malformed Connection or Upgrade field", "DPE"),
    "bad_expect": (417, "downstream", "never", "unknown expectation", "DPE"),
    "line_too_long": (414, "downstream", "never", "request line too long", "DPE"),
    "head_too_large": (431, "downstream", "never", "header section too large", "DPE"),
    "too_many_fields": (431, "downstream", "never", "too many header fields", "DPE"),
    "bad_chunk": (400, "downstream", "never", "malformed chunked body", "DPE"),
    "not_http": (400, "downstream", "never", "not HTTP/1", "DPE"),
    # the rest of a request
    "method_not_allowed": (405, "downstream", "never", "method not allowed here", "DPE"),
    "upgrade_refused": (403, "downstream", "never", "upgrade not allowed by the route", "DPE"),
    "body_too_large": (413, "downstream", "never", "request body too large", "DPE"),
    "head_timeout": (408, "downstream", "never", "request head not received in time", "SI"),
    "stream_idle": (408, "downstream", "never", "no progress within the idle timeout", "SI"),
    "client_abort": (0, "downstream", "never", "client went away", "DC"),
    "no_route": (404, "downstream", "never", "no route", "NR"),
    "loop": (508, "downstream", "never", "loop: the request came back to this proxy too often", "LR"),
    # upstream
    "no_endpoint": (503, "upstream", "never", "no endpoint", "UH"),
    "overflow": (503, "upstream", "never", "limit reached", "UO"),
    "connect_failure": (503, "upstream", "connect", "connect failed", "UF"),
    "connect_timeout": (503, "upstream", "connect", "connect timed out", "UF"),
    "upstream_reset": (502, "upstream", "stale", "upstream closed the connection before it answered", "UC"),
    "upstream_cut": (502, "upstream", "never", "upstream response was cut short", "UC"),
    "upstream_protocol": (502, "upstream", "never", "upstream sent a malformed response", "UPE"),
    "upstream_head_too_large": (502, "upstream", "never", "upstream response head too large", "UPE"),
    "upstream_upgrade": (502, "upstream", "never", "upstream switched protocols unasked", "UPE"),
    "request_timeout": (504, "upstream", "never", "request timeout", "UT"),
    # ourselves
    "overload": (503, "internal", "never", "overload: out of memory budget", "OM"),
    "draining": (503, "internal", "never", "draining", "LR"),
    "internal": (500, "internal", "never", "internal error", "LR"),
}
