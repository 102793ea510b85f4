"""Reload (SIGHUP, changed file) under load fails nothing and forgets no counter; SIGTERM drains (I5's core, issue 2)."""

import threading

import pytest

from harness import serve, wait_for
from harness.client import request
from harness.origin import OK

CONFIG = """
admin: unix:$dir/admin.sock
drain_timeout: 5s
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{match: {path: /version}, direct_response: {status: 200, body: "$version"}}, {cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""


def version(one):
    return one.get("/version").body


@pytest.mark.parametrize("how", ["SIGHUP", "file"])
def test_reload_under_load(proxy, origin, how):
    app = origin()
    one = proxy(CONFIG, app=app.address, version="0")
    stop, counts, errors = threading.Event(), [], []

    def run():
        n = 0
        try:
            with one.connect() as client:
                while not stop.is_set():
                    assert client.get().status == 200
                    n += 1
        except Exception as fault:
            errors.append(fault)
        counts.append(n)

    threads = [threading.Thread(target=run) for _ in range(4)]
    [thread.start() for thread in threads]
    try:
        for i in range(1, 6):
            one.write(CONFIG, version=str(i))
            how == "SIGHUP" and one.hup()
            wait_for(lambda: version(one) == str(i).encode(), 10, "the new version serves")
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert not errors
    assert sum(counts) == len(app.requests) and not app.faults
    assert wait_for(lambda: one.metric("fastproxy_requests_total", cluster="app") == sum(counts))


def test_a_bad_file_changes_nothing(proxy, origin):
    one = proxy(CONFIG, app=origin().address, version="0")
    one.write(CONFIG.replace("listeners:", "listners:"))
    one.hup()
    wait_for(lambda: "listners" in one.errors, what="the error is logged")
    assert version(one) == b"0" and one.process.poll() is None


def test_sigterm_finishes_what_is_in_flight(proxy, origin):
    go = threading.Event()

    def slow(message, conn):
        go.wait(5)
        return OK

    app = origin(serve(slow))
    one = proxy(CONFIG, app=app.address, version="0")
    with one.connect() as idle, one.connect() as client:
        assert idle.get("/version").status == 200
        client.send(request())
        app.wait_requests(1)
        one.terminate()
        assert idle.closed()
        go.set()
        reply = client.response()
        assert (reply.status, reply.body) == (200, b"ok\n") and b"close" in reply.get(b"connection", b"")
        assert client.closed()
    assert one.wait_exit() == 0


def test_a_second_sigterm_exits_now(proxy, origin):
    app = origin(lambda conn: (conn.head(), conn.drain()))
    one = proxy(CONFIG.replace("5s", "1h"), app=app.address, version="0")
    with one.connect() as client:
        client.send(request())
        app.wait_requests(1)
        one.terminate()
        wait_for(lambda: refuses(one))
        one.terminate()
        assert one.wait_exit(3) == 0


def refuses(one):
    try:
        one.connect().sock.close()
    except ConnectionRefusedError:
        return True


def test_ready_lines_and_time(proxy, origin):
    one = proxy(CONFIG, app=origin().address, version="0")
    assert one.lines[-1] == "ready" and any(line.startswith("listening web 127.0.0.1:") for line in one.lines)
