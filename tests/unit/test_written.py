"""A model written out is a file again: the same model, every default in it."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fastproxy.model import load, load_dict
from fastproxy.model.written import REDACTED, duration, redact, written

WHOLE = """
admin: unix:/tmp/a.sock
workers: auto
drain_timeout: 1500ms
listeners:
  - name: web
    bind: 127.0.0.1:0
    via: true
    filters: [token_check, {name: other}]
    timeouts: {head: 0.5s, idle: 1us}
    limits: {head_bytes: 1025B, body_bytes: 3MiB}
    virtual_hosts:
      - hosts: ["*.x.org", "token.example", "y.*"]
        routes:
          - {match: {path: {regex: "/a.*"}}, redirect: {host: b.org}}
          - {match: {path: /x}, direct_response: {status: 200, body: "0123", headers: {a: "yes"}}, response_headers: {remove: [x]}}
      - name: z
        hosts: ["*", "[::1]"]
        routes:
          - match: {path_prefix: /v2, methods: [GET], headers: {x-user: jason, y: {present: true, invert: true}, z: {present: false}, e: ""}, query: {token: "1"}}
            split: [{cluster: a, weight: 90}, {cluster: b, weight: 0}]
            timeout: 1h
            rewrite: {path_prefix: /}
            upgrades: []
  - name: hosts
    bind: "[::1]:0"
    routes:
      - {match: {host: {exact: a}, path: "*"}, cluster: a, request_headers: {set: {Authorization: Bearer hush}, add: {Cookie: [hush, hush], D: e}, remove: [q]}}
      - {name: named, match: {host: "*"}, split: [{cluster: a, weight: 2}]}
      - {match: {host: {suffix: .org, invert: true}, path: {contains: a}}, cluster: b}
  - {name: raw, bind: "unix:/tmp/x", protocol: tcp, cluster: a, timeouts: {idle: 5m}}
  - {name: short, bind: "127.0.0.1:0", cluster: a, access_log: {path: /dev/stdout}}
  - {name: logged, bind: "127.0.0.1:0", cluster: a, access_log: {path: /tmp/a.log, format: "%REQ(:PATH)% 100%% %START_TIME(%F)%\n"}}
  - {name: json, bind: "127.0.0.1:0", cluster: a, access_log: {path: /tmp/a.log, json: true}}
  - {name: keys, bind: "127.0.0.1:0", protocol: tcp, cluster: a, access_log: {path: /tmp/a.log, json: {a: "%BYTES_SENT%", b: x}}}
clusters:
  - {name: a, endpoints: ["127.0.0.1:80", {address: "unix:/q", weight: 3, zone: "", labels: {version: v1}}], outlier: false, retry_budget: false, balance: {name: mine}}
  - {name: b, endpoints: [], outlier: {max_ejection_percent: 10}, limits: {requests: 7}, fallback: c}
  - {name: c, endpoints: {dns: {name: a.example., port: 80, resolvers: ["127.0.0.1:53", "[::1]:53"]}}, fallback: d}
  - {name: d, endpoints: {dns: {name: b, port: 81}}, fallback: e}
  - {name: e, endpoints: {file: /tmp/e.yaml}}
"""


def test_the_same_model_again():
    model = load(text=WHOLE)
    shape = written(model)
    assert load_dict(shape) == model
    assert load(text=json.dumps(shape)) == model
    assert load(text=yaml.safe_dump(shape, sort_keys=False, width=1 << 30)) == model


def test_redacted_it_is_still_valid():
    shape = redact(written(load(text=WHOLE)))
    assert "hush" not in str(shape) and load_dict(shape)
    first = shape["listeners"][0]
    assert first["filters"] == ["token_check", "other"] and first["virtual_hosts"][0]["hosts"] == ["*.x.org", "token.example", "y.*"]
    assert shape["listeners"][1]["routes"][0]["request_headers"] == {"set": {"Authorization": REDACTED}, "add": {"Cookie": [REDACTED] * 2, "D": ["e"]}, "remove": ["q"]}


@pytest.mark.parametrize("text, same", [("0s", "0s"), ("60s", "1m"), ("1500ms", "1500ms"), ("90m", "90m"), ("0.5s", "500ms"), ("24h", "24h"), ("1us", "1us")])
def test_durations_are_short(text, same):
    from fastproxy.model.values import duration as parse
    assert duration(parse(text)) == same


@given(st.integers(0, 365 * 24 * 3600 * 10**9))
def test_every_duration_comes_back(ns):
    from fastproxy.model.values import duration as parse
    assert round(parse(duration(ns / 1e9)) * 1e9) == round(ns / 1e9 * 1e9)
