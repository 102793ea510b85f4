"""Endpoints in a file that is watched (D1): edits, broken files, missing ones, and a storm of them."""

import json
import os
import time

import pytest

from harness import wait_for
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", routes: [{cluster: app}$more]}
clusters:
  - {name: app, balance: round_robin, endpoints: {file: app.yaml}}
"""


def put(proxy, text, in_place=False):
    file = proxy.directory / "app.yaml"
    if in_place:
        file.write_text(text)
    else:
        (proxy.directory / "new").write_text(text)
        (proxy.directory / "new").replace(file)


def as_yaml(*origins):
    return "".join(f'- {{address: "{one.address}", weight: {i + 1}}}\n' for i, one in enumerate(origins))


def as_json(*origins):
    return json.dumps([one.address for one in origins])


@pytest.fixture
def app(proxy):
    """app(text) -> a proxy whose file has this text; None: it is not there."""
    def start(text, **options):
        def before(argv, directory):
            if text is not None:
                (directory / "app.yaml").write_text(text)
            return argv
        return proxy(CONFIG, wrap=before, more="", **options)
    return start


@pytest.mark.parametrize("form, in_place", [(as_yaml, False), (as_yaml, True), (as_json, False), (as_json, True)])
def test_an_edit_moves_the_traffic_in_a_second(app, saying, load, form, in_place):
    a, b, c = saying(b"a"), saying(b"b", kind="tcp6"), saying(b"c", kind="unix")
    one = app(form(a))
    with load(one) as seen:
        wait_for(lambda: len(seen) > 20)
        for origins in ((b,), (c, a), (b, c), (a,)):
            wanted = {{a: b"a", b: b"b", c: b"c"}[origin] for origin in origins}
            put(one, form(*origins), in_place)
            edited = time.monotonic()
            wait_for(lambda: {body for body, _ in seen[-20:]} == wanted)
            assert time.monotonic() - edited < 1.0 * SCALE
    assert one.metric("fastproxy_discovery_results_total", cluster="app", source="file", result="ok") == 5
    assert one.metric("fastproxy_config_reloads_total") == 0    # the file of endpoints is not the configuration


def test_a_broken_file_keeps_what_there_was(app, saying, load):
    one = app(as_yaml(saying(b"a")))
    with load(one) as seen:
        for n, (text, where, why) in enumerate([('- "127.0.0.1:1"\n- nowhere\n', "2:3", "expected ip:port"), ("", "1:1", "expected a list, found nothing"),
                                                ('- {address: "127.0.0.1:1", wieght: 2}', "1:28", "did you mean `weight`?"), ('- "127.0.0.1:1', "1:3", "this quote is never closed"),
                                                ('["127.0.0.1:1", "127.0.0.1:1"]', "1:17", "is repeated"), ("clusters: []", "1:1", "expected a list, found a map")], 1):
            put(one, text)
            wait_for(lambda: f"app.yaml:{where}: " in one.errors and why in one.errors, what=f"{where} {why}")
            assert "WARNING fastproxy.discovery: file" in one.errors and "; the endpoints found before stay" in one.errors
            assert one.metric("fastproxy_discovery_results_total", cluster="app", result="error") == n
            assert one.metric("fastproxy_discovery_failing", cluster="app") == 1
            before = len(seen)
            wait_for(lambda: len(seen) > before + 5)
        cluster = json.loads(one.admin("/clusters").body)["app"]
        assert "expected a list, found a map" in cluster["discovery"]["error"]
        assert [end["source"] for end in cluster["endpoints"]] == [f"file {one.directory}/app.yaml"]
        put(one, as_yaml(saying(b"b")))
        wait_for(lambda: seen[-1][0] == b"b")
        assert "INFO fastproxy.discovery: file" in one.errors and one.metric("fastproxy_discovery_failing", cluster="app") == 0


def test_a_file_that_comes_and_goes(app, saying):
    one = app(None)
    reply = one.get("/")
    assert (reply.status, reply.get(b"x-fastproxy-error"), reply.body) == (503, b"no_endpoint", b"fastproxy: no endpoint: cluster app has none\n")
    assert "app.yaml: cannot be read: No such file or directory" in one.errors
    put(one, as_yaml(saying(b"a")), in_place=True)
    wait_for(lambda: one.get("/").status == 200)
    (one.directory / "app.yaml").unlink()
    wait_for(lambda: one.metric("fastproxy_discovery_failing") == 1)
    assert one.get("/").body == b"a"                            # the last that was good
    put(one, "[]")
    wait_for(lambda: one.get("/").status == 503)
    (one.directory / "app.yaml").unlink()
    (one.directory / "app.yaml").mkdir()
    wait_for(lambda: "cannot be read: Is a directory" in one.errors)
    (one.directory / "app.yaml").rmdir()
    os.mkfifo(one.directory / "app.yaml")
    wait_for(lambda: "cannot be read: not a file" in one.errors)
    assert 4 <= one.metric("fastproxy_discovery_results_total", result="error") <= 6     # missing twice, and each of these once: a look may fall between
    put(one, as_json(saying(b"b")))
    wait_for(lambda: one.get("/").body == b"b")


def test_a_thousand_edits_in_a_second(app, saying, load):
    """Few of them are applied, and the last one is (D12)."""
    a, b, last = saying(b"a"), saying(b"b"), saying(b"last")
    one = app(as_yaml(a))
    with load(one) as seen:
        wait_for(lambda: seen)
        start = time.monotonic()
        for i in range(1000):
            put(one, as_yaml((a, b)[i % 2], *([last] if i == 500 else [])))
            time.sleep(max(0, start + i / 1000 - time.monotonic()))
        put(one, as_yaml(last))
        took = time.monotonic() - start
        wait_for(lambda: {body for body, _ in seen[-20:]} == {b"last"})
    print("applied", one.metric("fastproxy_discovery_updates_total"), "in", took)
    assert one.metric("fastproxy_discovery_updates_total") <= 20 * max(1, took)


def test_a_reload_keeps_what_was_found(app, saying, load):
    """Nothing reads the file anew for it: it is broken by then, and no request meets a cluster without endpoints."""
    one = app(as_yaml(saying(b"a")))
    put(one, "broken")
    wait_for(lambda: one.metric("fastproxy_discovery_failing") == 1)
    with load(one) as seen:
        for i in range(1, 4):
            one.write(CONFIG, more=f", {{match: {{path: /{i}}}, cluster: app}}")
            one.hup()
            wait_for(lambda: one.metric("fastproxy_config_reloads_total", result="ok") == i)
        wait_for(lambda: len(seen) > 100)
    one.write(CONFIG + "  - {name: new, endpoints: {file: new.yaml}}\n", more=", {match: {path_prefix: /x}, cluster: new}")
    (one.directory / "new.yaml").write_text(as_yaml(saying(b"new")))
    one.hup()
    wait_for(lambda: one.metric("fastproxy_config_reloads_total", result="ok") == 4)
    assert json.loads(one.admin("/clusters").body)["new"]["endpoints"]              # there from the first moment
    one.write(CONFIG.replace("{file: app.yaml}", "[]"), more="")
    one.hup()
    wait_for(lambda: one.get("/").status == 503)
    assert one.metric("fastproxy_discovery_failing") == 0 and "discovery" not in json.loads(one.admin("/clusters").body)["app"]
