"""What is accepted, and what it means: the contract's example, defaults, scalars, paths, and equal models from file and dict."""

import json
import pathlib
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from fastproxy.model import ConfigError, load, load_dict, values
from fastproxy.model.config import Config
from fastproxy.tables.options import REQUIRED, SECTIONS

CONTRACT = """
workers: 1                        # 0 = in the uvloop loop; N threads; auto = available cores
admin: unix:/run/user/1000/fastproxy.sock   # mode 0600; or 127.0.0.1:9901; absent = off
metrics: 127.0.0.1:9902           # read-only: /metrics, /ready, /live; absent = off
drain_timeout: 30s
listeners:
  - name: web
    bind: 127.0.0.1:8080
    protocol: http                # http (HTTP/1.1 and HTTP/2 on one port) | tcp | detect
    timeouts: {head: 10s, stream_idle: 5m, idle: 1h}
    routes:                       # first match wins
      - name: canary
        match: {host: "reviews.example.com", path_prefix: /v2, methods: [GET, POST], headers: {x-user: jason}}
        cluster: reviews-v2
        timeout: 15s
        retries: {attempts: 2, conditions: [connect-failure, refused-stream, 503], per_try_timeout: 2s}
        upgrades: [websocket]     # the default; [] refuses every upgrade
      - split: [{cluster: reviews-v1, weight: 90}, {cluster: reviews-v2, weight: 10}]
  - name: secure
    bind: 127.0.0.1:8443
    protocol: http
    tls: {cert: server.pem, key: server.key, client_ca: ca.pem, alpn: [h2, http/1.1]}   # client_ca: a client certificate is required
    routes: [{cluster: reviews-v1}]
  - name: db
    bind: 127.0.0.1:5432
    protocol: tcp
    cluster: postgres
clusters:
  - name: reviews-v1
    protocol: http1               # http1 | http2 | auto
    balance: ewma                 # ewma | least_request | round_robin | random | ring_hash | maglev
    connect_timeout: 1s
    outlier: false                # default: on, section 9
    endpoints: ["127.0.0.1:9080", {address: "unix:/run/app.sock", weight: 2, zone: a, labels: {version: v1}}]
  - name: reviews-v2
    protocol: http2
    tls: {ca: ca.pem, cert: client.pem, key: client.key, sni: reviews.example.com, identities: ["spiffe://example.org/ns/default/sa/reviews"]}
    endpoints: ["127.0.0.1:9443"]
  - name: postgres
    endpoints: ["127.0.0.1:15432"]
"""
LATER = ("        retries:", "    tls:", "    protocol: http2")


def test_contract_is_refused_only_for_what_is_not_built():
    with pytest.raises(ConfigError) as caught:
        load(text=CONTRACT)
    assert [(one.path, one.code, one.message) for one in caught.value.errors] == [
        ("listeners[0].routes[0].retries", "not_built", "`retries` is not built yet"), ("listeners[1].tls", "not_built", "`tls` is not built yet"),
        ("clusters[1].protocol", "not_built", "`protocol: http2` is not built yet"), ("clusters[1].tls", "not_built", "`tls` is not built yet")]


def test_contract_without_that_is_accepted():
    model = load(text="".join(line for line in CONTRACT.splitlines(True) if not line.startswith(LATER)))
    assert (model.workers, model.admin, model.metrics, model.drain_timeout) == (1, "unix:/run/user/1000/fastproxy.sock", "127.0.0.1:9902", 30.0)
    web, secure, db = model.listeners
    assert (db.protocol, db.cluster, db.timeouts.idle) == ("tcp", "postgres", 3600.0)
    canary, rest = web.routes
    assert (canary.match.host, canary.match.path_prefix, canary.match.methods, canary.timeout) == ("reviews.example.com", "/v2", ["GET", "POST"], 15.0)
    assert (canary.match.headers["x-user"].kind, canary.match.headers["x-user"].value) == ("exact", "jason")
    assert [(one.cluster, one.weight) for one in rest.split] == [("reviews-v1", 90), ("reviews-v2", 10)]
    assert rest.name == "routes[1]" and rest.upgrades == ["websocket"]
    second = model.clusters[0].endpoints[1]
    assert (second.address, second.weight, second.zone, second.labels) == ("unix:/run/app.sock", 2, "a", {"version": "v1"})


def test_defaults_are_those_decided():
    model = load(text="listeners: [{name: a, bind: 127.0.0.1:1, routes: [{cluster: c}]}]\nclusters: [{name: c, endpoints: []}]")
    (one,), (cluster,), route = model.listeners, model.clusters, model.listeners[0].routes[0]
    assert (model.workers, model.admin, model.metrics, model.drain_timeout) == (1, None, None, 30)
    assert (one.protocol, one.timeouts.head, one.timeouts.stream_idle, one.timeouts.idle) == ("http", 10, 300, 3600)
    assert (one.limits.head_bytes, one.limits.fields, one.limits.body_bytes) == (60 * 1024, 100, 0)
    assert (one.x_forwarded, one.request_id, one.via, one.filters) == (True, True, None, [])
    assert (route.timeout, route.upgrades, route.rewrite, route.match.host) == (0, ["websocket"], None, None)
    assert (cluster.protocol, cluster.balance, cluster.connect_timeout, cluster.idle_timeout) == ("http1", "ewma", 5, 3600)
    limits, budget, outlier = cluster.limits, cluster.retry_budget, cluster.outlier
    assert (limits.connections, limits.pending, limits.requests, budget.percent, budget.min_per_second) == (1024, 1024, 1024, 20, 10)
    assert (outlier.consecutive_failures, outlier.base_ejection_time, outlier.max_ejection_time, outlier.max_ejection_percent) == (7, 1, 60, 50)


def test_every_option_of_the_table_is_a_field_of_the_model():
    from fastproxy.model.walk import DEFAULT_OF, MODELS
    from fastproxy.model import config
    models = {**MODELS, "config": Config, "listener": config.Listener, "virtual_host": config.VirtualHost, "route": config.Route, "cluster": config.Cluster, "endpoint": config.Endpoint, "dns": config.Dns}
    for name, model in models.items():
        assert set(model.__struct_fields__) == set(DEFAULT_OF[name]) - ({"cluster"} if name == "route" else set()) | ({"discovery"} if name == "cluster" else set()), name
    assert {one.type for section in SECTIONS.values() for one in section.options.values() if not one.built} == {("any",)}
    assert all(one.default is REQUIRED or one.default is None or isinstance(one.default, (str, int, bool, list, dict)) for section in SECTIONS.values() for one in section.options.values())


def one_listener(**keys):
    return load_dict({"listeners": [{"name": "a", "bind": "127.0.0.1:1", **keys}], "clusters": [{"name": "c", "endpoints": []}]}).listeners[0]


def test_scalars_that_look_like_something_else_stay_text():
    text = """
listeners:
- name: 0123
  bind: 127.0.0.1:1
  routes:
  - {name: on, match: {headers: {x-a: 1.10, x-b: 0x10, x-c: yes, x-d: "null", x-e: 12:30:45, x-f: 2024-01-01, x-g: true}}, cluster: 404}
clusters: [{name: 404, endpoints: [{address: "127.0.0.1:1", zone: off, labels: {version: 1e3}}]}]
"""
    model = load(text=text)
    route = model.listeners[0].routes[0]
    assert (model.listeners[0].name, route.name, route.split[0].cluster) == ("0123", "on", "404")
    assert [one.value for one in route.match.headers.values()] == ["1.10", "0x10", "yes", "null", "12:30:45", "2024-01-01", "true"]
    assert (model.clusters[0].endpoints[0].zone, model.clusters[0].endpoints[0].labels) == ("off", {"version": "1e3"})


def test_file_dict_and_json_give_the_same_model():
    config = {"workers": 2, "listeners": [
        {"name": "web", "bind": "[::1]:0", "via": True, "timeouts": {"head": "0s"}, "limits": {"head_bytes": 2048}, "virtual_hosts": [
            {"hosts": ["A.com", "*.b.com", "www.*", "*"], "routes": [
                {"match": {"path": {"regex": "/a+"}} if has_regex() else {}, "redirect": {"scheme": "https"}},
                {"match": {"path_prefix": "/x", "query": {"a": {"present": True}}}, "cluster": "c", "rewrite": {"path_prefix": "/", "host": "in.example:81"},
                 "request_headers": {"set": {"X-A": 1}, "add": {"X-B": ["b", "c"]}, "remove": ["X-C"]}}]}]},
        {"name": "db", "bind": "unix:/tmp/x", "protocol": "tcp", "cluster": "c"}],
        "clusters": [{"name": "c", "balance": {"name": "mine"}, "endpoints": ["127.0.0.1:1", {"address": "[0::1]:2", "weight": 3}]}]}
    model = load_dict(config)
    assert model == load(text=json.dumps(config)) == load(text=json.dumps(config, indent=2).encode("utf-8-sig"))
    assert model.listeners[0].virtual_hosts[0].hosts == ["a.com", "*.b.com", "www.*", "*"] and model.listeners[0].via == "fastproxy"
    assert model.clusters[0].balance == "mine" and model.clusters[0].endpoints[1].address == "[::1]:2"


def test_a_model_is_plain_data_of_the_types_it_declares():
    model = load(text="".join(line for line in CONTRACT.splitlines(True) if not line.startswith(LATER)))
    assert msgspec.json.decode(msgspec.json.encode(model), type=Config) == model


def has_regex():
    import importlib.util
    return importlib.util.find_spec("fastproxy.proxy.regex") is not None


def test_relative_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    file = tmp_path / "proxy.yaml"
    file.write_text("admin: unix:admin.sock\nlisteners: [{name: a, bind: unix:./sub/../web.sock, cluster: c}]\nclusters: [{name: c, endpoints: [unix:/abs.sock]}]")
    monkeypatch.chdir("/")
    for model in (load(file), load(str(file)), load(text=file.read_text(), base=tmp_path)):
        assert (model.admin, model.listeners[0].bind, model.clusters[0].endpoints[0].address) == (f"unix:{tmp_path}/admin.sock", f"unix:{tmp_path}/web.sock", "unix:/abs.sock")


def test_aliases_anchors_and_empty_lists():
    model = load(text="""
listeners:
- {name: a, bind: 127.0.0.1:0, timeouts: &t {head: 1s}, routes: &r [{cluster: c}]}
- {name: b, bind: 127.0.0.1:0, timeouts: *t, routes: *r}
- {name: d, bind: 127.0.0.1:0, routes: []}
clusters: [{name: c, endpoints: []}]
""")
    assert [one.timeouts.head for one in model.listeners] == [1, 1, 10] and model.listeners[1].routes[0].split[0].cluster == "c"


def test_null_is_absent_where_absence_is_the_default():
    model = load(text="admin:\nmetrics: ~\nlisteners: [{name: a, bind: 127.0.0.1:1, routes: [{name: null, cluster: c, rewrite: null}]}]\nclusters: [{name: c, endpoints: []}]")
    assert model.admin is None and model.metrics is None and model.listeners[0].routes[0].name == "routes[0]"


def test_one_port_for_both_families_and_port_zero_twice():
    load(text="listeners: [{name: a, bind: 0.0.0.0:1, routes: []}, {name: b, bind: \"[::]:1\", routes: []}, {name: c, bind: 127.0.0.1:0, routes: []}, {name: d, bind: 127.0.0.1:0, routes: []}]")


def test_a_matcher_may_be_inverted():
    match = one_listener(routes=[{"cluster": "c", "match": {"host": {"suffix": ".A.com", "invert": True}, "headers": {"X-A": {"present": True, "invert": True}, "x-b": {"present": False}}}}]).routes[0].match
    assert (match.host.value, match.host.invert) == (".a.com", True)
    assert [(name, one.kind, one.invert) for name, one in match.headers.items()] == [("x-a", "present", True), ("x-b", "present", True)]


@pytest.mark.parametrize("text, seconds", [("0s", 0), ("250ms", 0.25), ("5s", 5), ("1h", 3600), ("1h30m", 5400), ("0.5s", 0.5), ("1.25ms", 0.00125), ("10us", 0.00001), ("1m1s1ms", 61.001)])
def test_durations(text, seconds):
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5S", "5d", "1.s", ".5s", "1e3s", "５s", "5s ", "5s5", "9" * 13 + "s"])
def test_not_durations(text):
    with pytest.raises(ValueError):
        values.duration(text)


@pytest.mark.parametrize("text, n", [("0", 0), ("512", 512), ("1B", 1), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)])
def test_sizes(text, n):
    assert values.size(text) == n


@pytest.mark.parametrize("text", ["", "B", "-1", "1.5KiB", "1 KiB", "1kb", "1KB", "1K", "1kib", "9" * 19])
def test_not_sizes(text):
    with pytest.raises(ValueError):
        values.size(text)


@pytest.mark.parametrize("text, canonical", [("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80"), ("[0:0::0:1]:80", "[::1]:80"), ("[2001:DB8::1]:1", "[2001:db8::1]:1"),
                                             ("[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]:1"), ("unix:/a/b", "unix:/a/b"), ("unix:b", "unix:/base/b")])
def test_addresses(text, canonical):
    assert values.address(text, "/base") == canonical


@pytest.mark.parametrize("text", ["", ":", "80", "1.2.3:80", "01.2.3.4:80", "1.2.3.4:", "1.2.3.4:+1", "1.2.3.4: 1", "1.2.3.4:٣", "[::1]", "[::1]80", "[]:80", "[1.2.3.4]:80", "[::1]:80:80", "[::1%lo]:1", "unix:",
                                  "unix:@a", "unix:a\0b", "http://1.2.3.4:80", "1.2.3.4\0:80", "é:80"])
def test_not_addresses(text):
    with pytest.raises(ValueError):
        values.address(text, "/base")


@given(st.text(max_size=40), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_nothing_but_config_errors_come_out(noise, how):
    base = CONTRACT[:400]
    at = (len(noise) * 37) % len(base)
    text = [noise, base[:at] + noise + base[at:], f"listeners: [{{name: {noise}}}]", "listeners:\n- " + noise][how]
    try:
        load(text=text)
    except ConfigError as error:
        assert error.errors and all(one.line >= 1 and one.col >= 1 for one in error.errors)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(sorted({key for section in SECTIONS.values() for key in section.options})), inner, max_size=4), max_leaves=12))
@settings(max_examples=300, deadline=None)
def test_no_shape_of_dict_escapes_as_another_error(config):
    for value in (config, {"listeners": [config], "clusters": [config]}, {"listeners": [{"name": "a", "bind": "127.0.0.1:1", "routes": [config]}]},
                  {"listeners": [{"name": "a", "bind": "127.0.0.1:1", "virtual_hosts": [config]}]}):
        try:
            load_dict(value)
        except ConfigError as error:
            assert error.errors


def test_imports_stay_few():
    """What the proxy imports at every start: msgspec and yaml, and nothing that costs megabytes."""
    code = ("import sys, fastproxy.model, fastproxy.proxy.compile\n"
            "print(sorted({'difflib', 'ipaddress', 'dataclasses', 'fastproxy.proxy.regex', 'click', 'h11', 'h2', 'cryptography'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == "[]"
