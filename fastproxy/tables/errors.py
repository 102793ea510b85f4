"""Every way in which a request or a connection can fail: the one table that the core, the counters and the docs share.

A row: name -> (status, side, retry, sentence)
  status  what the client gets when no response has begun; 0 = nothing can be said, the conn is closed
  side    who caused it: downstream | upstream | internal
  retry   never | unsent (only if no byte was sent) | stale (re-used conn, idempotent, wholly held) | connect
  sentence  the body of the reply, and the label `cause` is the name
Order matters: the index is the code in the core. Append at the end of a group freely; codes are not stable across versions.
"""

ERRORS = {
    # HTTP/1 request heads (parser)
    "bad_request_line": (400, "downstream", "never", "malformed request line"),
    "bad_method": (400, "downstream", "never", "malformed method"),
    "bad_target": (400, "downstream", "never", "malformed request target"),
    "bad_path": (400, "downstream", "never", "path holds a dot segment, a backslash or an encoded NUL"),
    "bad_version": (505, "downstream", "never", "HTTP version not supported"),
    "bad_field": (400, "downstream", "never", "malformed header field"),
    "bad_line_end": (400, "downstream", "never", "line does not end in CRLF"),
    "bad_host": (400, "downstream", "never", "missing, repeated or invalid Host"),
    "bad_content_length": (400, "downstream", "never", "invalid Content-Length"),
    "bad_transfer_encoding": (400, "downstream", "never", "invalid or unsupported Transfer-Encoding"),
    "framing_conflict": (400, "downstream", "never", "both Content-Length and Transfer-Encoding"),
    "bad_connection": (400, "downstream", "never", "malformed Connection or Upgrade field"),
    "bad_expect": (417, "downstream", "never", "unknown expectation"),
    "line_too_long": (414, "downstream", "never", "request line too long"),
    "head_too_large": (431, "downstream", "never", "header section too large"),
    "too_many_fields": (431, "downstream", "never", "too many header fields"),
    "bad_chunk": (400, "downstream", "never", "malformed chunked body"),
    "not_http": (400, "downstream", "never", "not HTTP/1"),
    # the rest of a request
    "method_not_allowed": (405, "downstream", "never", "method not allowed here"),
    "upgrade_refused": (403, "downstream", "never", "upgrade not allowed by the route"),
    "body_too_large": (413, "downstream", "never", "request body too large"),
    "head_timeout": (408, "downstream", "never", "request head not received in time"),
    "stream_idle": (408, "downstream", "never", "no progress within the idle timeout"),
    "client_abort": (0, "downstream", "never", "client went away"),
    "no_route": (404, "downstream", "never", "no route"),
    "loop": (508, "downstream", "never", "loop: the request came back to this proxy too often"),
    # upstream
    "no_endpoint": (503, "upstream", "never", "no endpoint"),
    "overflow": (503, "upstream", "never", "limit reached"),
    "connect_failure": (503, "upstream", "connect", "connect failed"),
    "connect_timeout": (503, "upstream", "connect", "connect timed out"),
    "upstream_reset": (502, "upstream", "stale", "upstream closed the connection before it answered"),
    "upstream_cut": (502, "upstream", "never", "upstream response was cut short"),
    "upstream_protocol": (502, "upstream", "never", "upstream sent a malformed response"),
    "upstream_head_too_large": (502, "upstream", "never", "upstream response head too large"),
    "upstream_upgrade": (502, "upstream", "never", "upstream switched protocols unasked"),
    "request_timeout": (504, "upstream", "never", "request timeout"),
    # ourselves
    "overload": (503, "internal", "never", "overload: out of memory budget"),
    "draining": (503, "internal", "never", "draining"),
    "internal": (500, "internal", "never", "internal error"),
}
