"""Every option of the configuration file: the one table that validates, documents and publishes it.

SECTIONS: section -> Section(about, options); a section is a map in the file. RESOURCES: the same, in snapshots. An Option has
  type     a tuple: its kind, then the bounds or parts of that kind (below); the texts are as written in the file
  default  as written in the file; None = absent; REQUIRED
  source   who else chose that default, or why it is ours
  help     one or two plain sentences
  built    False: the key is known and refused by name
The kinds, each with a reader in model/check.py and a schema in tools/gen_docs.py:
  bool · int(lo, hi) · duration(lo, hi) · size(lo, hi) · text(longest) · name · enum(built, not_built) · status(lo, hi)
  bind · address · host · host_pattern · scheme · path · path_matcher · method · token · matcher(what) · field_value
  workers · switch(section) · log_path · log_format · log_json · via · balance · endpoints · endpoint · file · dns_name · resolver · filter
  ref(section) · section(name) · list(type, shortest) · map(what, type)
"""

from collections import namedtuple

Option = namedtuple("Option", "type default source help built", defaults=(True,))
Section = namedtuple("Section", "about options")
REQUIRED = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()

BALANCERS = {
    "ewma": "least expected latency (peak EWMA: decay 10 s, first guess 30 ms) of two endpoints drawn at random",
    "least_request": "fewer requests in flight, of two endpoints drawn at random",
    "round_robin": "in turn, by weight",
    "random": "at random, by weight",
}
FOREVER = "8760h"  # a year: over it somebody has mistaken the unit
FIELD_EDIT = ("section", "header_edit")


def later(about, source="", kind=("any",)):
    """A key that is part of the format, and that this version refuses by name."""
    return Option(kind, None, source, about, False)


SECTIONS = {
    "config": Section("The file as a whole.", {
        "workers": Option(("workers", 0, 256), 1, "a sidecar shares the machine with its application (Linkerd2: 1)",
                          "Threads that serve. `0` serves in the event loop of the process, for embedding and tests; `auto` is the number of cores available."),
        "admin": Option(("bind",), None, "off unless asked for", "Where the admin interface listens. A Unix socket gets mode 0600. Absent: off."),
        "metrics": Option(("bind",), None, "off unless asked for", "Where `/metrics`, `/ready` and `/live` are served, read only. Absent: off."),
        "drain_timeout": Option(("duration", "0s", FOREVER), "30s", "Kubernetes grants a pod 30 s to end", "How long a drain lets streams finish before it closes them."),
        "drain_grace": Option(("duration", "0s", FOREVER), "1s", "ours; nginx keepalive_min_timeout is meant for the same", "How long a drain leaves HTTP connections open that have no request. "
                              "One that comes in that time is answered, with `Connection: close`. At most half of `drain_timeout`."),
        "listeners": Option(("list", ("section", "listener"), 0), REQUIRED, "", "Where the proxy accepts connections."),
        "clusters": Option(("list", ("section", "cluster"), 0), [], "", "Where requests and connections can go."),
    }),
    "listener": Section("An address the proxy accepts connections on, and what becomes of them.", {
        "name": Option(("name",), REQUIRED, "", "Unique among the listeners; printed by `run`, and the label `listener` of metrics."),
        "bind": Option(("bind",), REQUIRED, "", "`ip:port`, `\"[v6]:port\"` or `unix:/path`. Port 0 lets the kernel choose."),
        "protocol": Option(("enum", {"http": "HTTP/1.1, and HTTP/1.0 where a client speaks it", "tcp": "bytes, opaque"},
                            {"detect": "told by the first bytes"}), "http", "our choice", "What is spoken on the connections."),
        "timeouts": Option(("section", "timeouts"), {}, "", "How long to wait for what."),
        "limits": Option(("section", "limits"), {}, "", "Bounds of a request; `http` only."),
        "routes": Option(("list", ("section", "route"), 0), None, "", "Routes over all hosts; the first whose `match` holds is taken. `http` only."),
        "virtual_hosts": Option(("list", ("section", "virtual_host"), 1), None, "Envoy", "Routes by host, instead of `routes`. The exact host wins, then the longest "
                                "`*.suffix`, then the longest `prefix.*`, then `*`; only that one's routes are tried. `http` only."),
        "cluster": Option(("ref", "cluster"), None, "", "Where everything goes. For `tcp` the only target; for `http` short for one route without `match`."),
        "x_forwarded": Option(("bool",), True, "Envoy", "Append the client's address to `X-Forwarded-For`, and set `X-Forwarded-Proto`. `http` only."),
        "request_id": Option(("bool",), True, "Envoy generate_request_id", "Give a request without `X-Request-Id` one. `http` only."),
        "via": Option(("via",), False, "Envoy",
                      "Append `Via`. `true` names the proxy `fastproxy`; a word names it that. `http` only."),
        "access_log": Option(("section", "access_log"), None, "off unless asked for", "A line for each request, or connection of a `tcp` listener, when it ends."),
        "filters": Option(("list", ("filter",), 0), [], "", "Filters of compiled extensions, by the name they are registered under, in the order given. "
                          "An installed package that has one under the entry points `fastproxy.filters` is imported for it. `http` only."),
        "tls": later("TLS on the listener."),
        "chains": later("Filter chains: several protocols or certificates on one address.", "Envoy"),
        "original_destination": later("Transparent proxying.", "Envoy"),
        "proxy_protocol": later("The PROXY header, v1 and v2.", "Envoy"),
    }),
    "access_log": Section("With Envoy's operators: `%START_TIME%`, `%REQ(NAME)%`, `%RESP(NAME)%`, `%RESPONSE_CODE%`, `%RESPONSE_FLAGS%`, `%DURATION%` and so on. Of `format` and `json`, one.", {
        "path": Option(("log_path",), REQUIRED, "", "A file, which is appended to and opened again on a reload; `/dev/stdout` or `/dev/stderr`."),
        "format": Option(("log_format",), None, "Envoy's default format", "A text with operators, and with the line's end. A `%` is written `%%`."),
        "json": Option(("log_json",), None, "", "`true` for one object a line with the default keys, or key -> text with operators. A text that is one operator has its type; what is absent is `null`."),
    }),
    "timeouts": Section("`0s` turns one off.", {
        "head": Option(("duration", "0s", FOREVER), "10s", "slow-loris bound; Envoy's edge profile, Apache 20 s, nginx 60 s", "From the first byte of a request to the end of its head; and from the start of a connection to its first byte. `http` only."),
        "stream_idle": Option(("duration", "0s", FOREVER), "5m", "Envoy, Istio", "Within a request or response: no byte either way. `http` only."),
        "idle": Option(("duration", "0s", FOREVER), "1h", "Envoy, Istio", "`http`: between two requests of a connection. `tcp`: no byte either way."),
    }),
    "limits": Section("Bounds of what a client may send.", {
        "head_bytes": Option(("size", "1KiB", "64KiB"), "60KiB", "Envoy", "Request line and header fields together; over it 431, or 414 when it is the line."),
        "fields": Option(("int", 1, 128), 100, "Envoy", "Number of header fields; over it 431."),
        "body_bytes": Option(("size", "0B", "1048576GiB"), "0B", "Envoy has none; nginx 1 MiB", "Request body; over it 413. `0B`: no limit."),
    }),
    "virtual_host": Section("The routes of some hosts.", {
        "name": Option(("name",), None, "its first host", "Unique in the listener."),
        "hosts": Option(("list", ("host_pattern",), 1), REQUIRED, "Envoy domains", "`www.example.com`, `\"*.example.com\"`, `\"www.*\"` or `\"*\"`; without a port, in any case."),
        "routes": Option(("list", ("section", "route"), 0), REQUIRED, "", "The first whose `match` holds is taken; if none does, the answer is 404."),
    }),
    "route": Section("What becomes of some requests. Exactly one target: `cluster`, `split`, `redirect` or `direct_response`.", {
        "name": Option(("name",), None, "its place, for instance `routes[2]`", "Unique in the listener; the label `route` of metrics. Give one where the order may change."),
        "match": Option(("section", "match"), {}, "", "Which requests. Absent: all."),
        "cluster": Option(("ref", "cluster"), None, "", "Target: one cluster."),
        "split": Option(("list", ("section", "split"), 1), None, "Gateway API backendRefs", "Target: several clusters, each for its share of the requests."),
        "redirect": Option(("section", "redirect"), None, "Gateway API", "Target: an answer that sends the client elsewhere."),
        "direct_response": Option(("section", "direct_response"), None, "Envoy", "Target: an answer of the proxy's own."),
        "timeout": Option(("duration", "0s", FOREVER), "0s", "Istio and Linkerd; Envoy's 15 s surprises who streams", "From the end of the request to the end of the response; then 504. `0s`: none."),
        "upgrades": Option(("list", ("token", "upgrade"), 0), ["websocket"], "Linkerd2", "Protocols that a client may upgrade to. `[]` refuses every upgrade."),
        "rewrite": Option(("section", "rewrite"), None, "Gateway API URLRewrite", "What the cluster sees instead of the client's path and host."),
        "request_headers": Option(FIELD_EDIT, None, "Gateway API RequestHeaderModifier", "Changes to the request's header fields."),
        "response_headers": Option(FIELD_EDIT, None, "Gateway API ResponseHeaderModifier", "Changes to the response's header fields."),
        "retries": later("Retries beyond those that are always safe.", "Envoy retry_policy"),
        "cluster_header": later("Target: the cluster that a header names.", "Envoy"),
        "original_destination": later("Target: where the client meant to go.", "Envoy"),
        "forward_host": later("Target: the host that the request names.", "Envoy"),
        "subset": later("The endpoints of the cluster that have these labels.", "Envoy"),
        "mirror": later("A copy of some requests to another cluster.", "Gateway API"),
    }),
    "match": Section("All that is given must hold.", {
        "host": Option(("host", "match"), None, "", "`www.example.com`, `\"*.example.com\"`, `\"www.*\"`, or a matcher over the host in lower case. The port does not count. Not in a virtual host."),
        "path": Option(("path_matcher",), None, "", "The path, exactly, or a matcher over it; without the query."),
        "path_prefix": Option(("path",), None, "Gateway API PathPrefix", "The first segments of the path: `/v2` holds for `/v2` and `/v2/x`, not for `/v2x`."),
        "methods": Option(("list", ("method",), 1), None, "", "One of these methods."),
        "headers": Option(("map", "header", ("matcher", "header")), {}, "", "Header field -> matcher. Several lines of one name count as one, joined by commas. "
                          "A field which is absent does not match, unless by `{present: true, invert: true}`."),
        "query": Option(("map", "query parameter", ("matcher", "query")), {}, "", "Query parameter -> matcher, over its first occurrence as it was sent (percent-encoded)."),
    }),
    "matcher": Section("A string stands for `exact`. Otherwise a map with one of these, and perhaps `invert`.", {
        "exact": Option(("text", 8192), None, "", "Equal."),
        "prefix": Option(("text", 8192), None, "", "Begins with it."),
        "suffix": Option(("text", 8192), None, "", "Ends with it."),
        "contains": Option(("text", 8192), None, "", "Holds it."),
        "regex": Option(("regex",), None, "Envoy (RE2)", "All of it matches this regular expression. Without backreferences and lookaround: it runs in linear time."),
        "present": Option(("bool",), None, "", "It is there (headers and query only)."),
        "invert": Option(("bool",), False, "Envoy", "The opposite."),
    }),
    "split": Section("A share of the requests.", {
        "cluster": Option(("ref", "cluster"), REQUIRED, "", "Where the share goes."),
        "weight": Option(("int", 0, 1000000), 1, "Gateway API", "The share is the weight over the sum of the weights."),
        "subset": later("The endpoints of the cluster that have these labels.", "Envoy"),
    }),
    "redirect": Section("`Location` is the request's own URL, query included, with the given parts replaced. At least one part.", {
        "scheme": Option(("scheme",), None, "", "`http` or `https`; its default port replaces the request's."),
        "host": Option(("host", "name"), None, "", "Without a port. The request's port stays, unless `port` or `scheme` is given."),
        "port": Option(("int", 1, 65535), None, "", ""),
        "path": Option(("path",), None, "", "The whole path."),
        "path_prefix": Option(("path",), None, "Gateway API ReplacePrefixMatch", "In place of what `match.path_prefix` matched."),
        "status": Option(("status", (301, 302, 303, 307, 308)), 302, "Gateway API (Envoy and Istio: 301, which clients remember for good)", "301, 302, 303, 307 or 308."),
    }),
    "direct_response": Section("An answer of the proxy's own.", {
        "status": Option(("int", 200, 599), REQUIRED, "", ""),
        "body": Option(("text", 65536), "", "", "At most 64 KiB, as `text/plain; charset=utf-8` unless `headers` has a `Content-Type`."),
        "headers": Option(("map", "field", ("field_value",)), {}, "", "Further header fields."),
    }),
    "rewrite": Section("Of `path` and `path_prefix`, one.", {
        "path": Option(("path",), None, "", "The whole path; the query is kept."),
        "path_prefix": Option(("path",), None, "Gateway API ReplacePrefixMatch", "In place of what `match.path_prefix` matched."),
        "host": Option(("host", "authority"), None, "", "The `Host` that the cluster sees."),
        "path_regex": later("A substitution by regular expression.", "Envoy regex_rewrite"),
    }),
    "header_edit": Section("Applied in the order remove, set, add. Fields that frame the message or belong to the connection cannot be edited.", {
        "set": Option(("map", "field", ("field_value",)), {}, "", "Field -> value, in place of all there are."),
        "add": Option(("map", "field", ("field_values",)), {}, "", "Field -> value or list of values, added to those there are."),
        "remove": Option(("list", ("field",), 0), [], "", "Fields to take away."),
    }),
    "cluster": Section("Endpoints that do the same.", {
        "name": Option(("name",), REQUIRED, "", "Unique among the clusters; the label `cluster` of metrics."),
        "protocol": Option(("enum", {"http1": "HTTP/1.1"}, {"http2": "HTTP/2", "auto": "the best that the endpoint speaks"}), "http1", "Envoy", "What the endpoints speak. Of no effect under a `tcp` listener."),
        "balance": Option(("balance",), "ewma", "Linkerd", "How an endpoint is chosen. `{name: NAME}` is a balancer of a compiled extension (entry points `fastproxy.balancers`)."),
        "connect_timeout": Option(("duration", "1ms", "10m"), "5s", "Envoy", "Until the connection stands; then another endpoint, or 503."),
        "idle_timeout": Option(("duration", "1ms", FOREVER), "1h", "Envoy", "A pooled connection unused for so long is closed. Set it below the endpoint's own keep-alive time."),
        "endpoints": Option(("endpoints",), REQUIRED, "", "Addresses, or maps with an `address`; or where to find them. `[]`: every request is answered 503."),
        "fallback": Option(("ref", "cluster"), None, "Envoy aggregate cluster", "The cluster that new requests go to while this one has no endpoint, or none that is not ejected. That one may have a fallback, too, up to four in a row. The limits, and the labels of metrics, are those of the cluster used."),
        "limits": Option(("section", "cluster_limits"), {}, "Envoy circuit_breakers", "How much may be under way at once; over it 503, cause `overflow`."),
        "retry_budget": Option(("switch", "retry_budget"), {}, "Linkerd", "How many attempts may be made again. `false`: as many as it takes, three a request."),
        "outlier": Option(("switch", "outlier"), {}, "Linkerd2", "Ejection of an endpoint that fails: a connect failure, a reset, a timeout, 502, 503 or 504. An application's 500 is none. `false`: off."),
        "tls": later("TLS to the endpoints."),
        "health_check": later("Active health checks.", "Envoy"),
        "subsets": later("Endpoints by label.", "Envoy"),
    }),
    "cluster_limits": Section("Of the cluster, over all workers.", {
        "connections": Option(("int", 1, 2147483647), 1024, "Envoy", "Open connections; over it requests wait for one that becomes free. A worker may always have one to each endpoint."),
        "pending": Option(("int", 1, 2147483647), 1024, "Envoy", "Requests that wait for a connection."),
        "requests": Option(("int", 1, 2147483647), 1024, "Envoy", "Requests under way."),
        "retries": later("Retries under way; it comes with retries by condition.", "Envoy"),
    }),
    "retry_budget": Section("What was never sent, and an idempotent request that met a stale connection, is sent again within this share of the requests of the last 10 s.", {
        "percent": Option(("int", 0, 100), 20, "Linkerd", "Of the requests."),
        "min_per_second": Option(("int", 0, 1000000), 10, "Linkerd", "So many always."),
    }),
    "outlier": Section("When the time of an ejected endpoint is over it gets one request: if that fails too, it is out for twice the time.", {
        "consecutive_failures": Option(("int", 1, 1000000), 7, "Linkerd2", "Failures in a row that eject it."),
        "base_ejection_time": Option(("duration", "1ms", FOREVER), "1s", "Linkerd2", "How long the first time; up to half of it is added at random."),
        "max_ejection_time": Option(("duration", "1ms", FOREVER), "60s", "Linkerd2", "How long at most, but for what is added at random."),
        "max_ejection_percent": Option(("int", 0, 100), 50, "our choice; Envoy 10", "Of the cluster's endpoints, out at once. A lone endpoint is never ejected below 100."),
    }),
    "discovery": Section("Endpoints that are found, in place of a list of them: one of the two. [discovery.md](discovery.md) says how.", {
        "dns": Option(("section", "dns"), None, "Envoy STRICT_DNS", "The addresses of a name."),
        "file": Option(("file",), None, "Linkerd io.l5d.fs", "A file with a list of endpoints, YAML or JSON, written as the list here would be. It is watched: a change is taken in less than a second, a broken file not at all."),
    }),
    "dns": Section("Every address that the name has is an endpoint. It is looked up again when its TTL is over (at least 1 s, at most 5 min); what was found last stays while that fails.", {
        "name": Option(("dns_name",), REQUIRED, "", "`app.example.com`. A dot at the end keeps it from being tried in the search domains of `/etc/resolv.conf`."),
        "port": Option(("int", 1, 65535), REQUIRED, "", "Of every endpoint."),
        "resolvers": Option(("list", ("resolver",), 1), None, "those of the system", "DNS servers, `ip:port`, the first that answers counts. They alone are asked then: no `/etc/hosts`, no search domains."),
    }),
    "endpoint": Section("A string stands for `address`.", {
        "address": Option(("address",), REQUIRED, "", "`ip:port`, `\"[v6]:port\"` or `unix:/path`."),
        "weight": Option(("int", 1, 65535), 1, "Envoy", "Share of the requests, beside the other endpoints' weights."),
        "zone": Option(("text", 255), None, "", "Where it is. Kept, and of no effect yet."),
        "labels": Option(("map", "label", ("text", 255)), {}, "", "What it is. Kept, and of no effect yet."),
        "priority": later("Failover between groups of endpoints.", "Envoy"),
    }),
}
# What a snapshot has besides `listener` and `cluster`, which are the file's own sections (docs/snapshot_protocol.md).
RESOURCES = {
    "settings": Section("The proxy as a whole.", {key: SECTIONS["config"].options[key] for key in ("workers", "admin", "metrics", "drain_timeout", "drain_grace")}),
    "route_table": Section("Routes that several listeners may share. One of the two.", {
        key: SECTIONS["listener"].options[key] for key in ("routes", "virtual_hosts")}),
    "endpoints": Section("The endpoints of the cluster of the same name.", {"endpoints": SECTIONS["cluster"].options["endpoints"]}),
    "secret": Section("A key and what belongs to it, in PEM. At least one.", {
        "cert": Option(("text", 1 << 20), None, "", "A certificate, and those that lead to its root."),
        "key": Option(("text", 1 << 20), None, "", "The private key of the certificate."),
        "ca": Option(("text", 1 << 20), None, "", "The roots that are trusted."),
    }),
}
NOT_BUILT_BALANCERS = {"ring_hash": "consistent hashing on a ring", "maglev": "consistent hashing by table"}
