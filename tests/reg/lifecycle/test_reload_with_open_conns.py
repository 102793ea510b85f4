"""Reloads while HTTP keep-alive, WebSocket and TCP connections are at work: none fails, closes or loses a counter (SIGHUP, changed file)."""

import threading

import pytest

from harness import wait_for
from harness.client import request
from harness.origin import OK

CONFIG = """
workers: $workers
admin: unix:$dir/admin.sock
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes: [{match: {path: /version}, direct_response: {status: 200, body: "$version"}}, {name: "all", cluster: app, response_headers: {set: {X-Version: "$version"}}}]
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: app, timeouts: {idle: $idle}}
  $more
clusters:
  - {name: app, endpoints: ["$app"$other]}
"""
MORE = '- {name: more, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}'
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def script(conn):
    while True:
        if conn.head().get(b"upgrade"):
            conn.send(SWITCH)
            while data := conn.more():
                conn.send(data)
            return
        conn.send(OK)


def http(client):
    assert client.get().body == b"ok\n"


def tunnel(client):
    client.send(b"echo")
    assert client.exactly(4) == b"echo"


@pytest.mark.parametrize("how, workers", [("SIGHUP", 1), ("SIGHUP", 2), ("file", 1)])
def test_nothing_fails_closes_or_is_forgotten(proxy, origin, how, workers):
    app, spare = origin(script), origin(script)
    one = proxy(CONFIG, app=app.address, other="", version="0", workers=str(workers), idle="1h", more="")
    stop, counts, faults, clients = threading.Event(), {}, [], {}
    for i in range(4):
        clients[f"web{i}", http] = one.connect()
        clients[f"ws{i}", tunnel] = one.connect()
        clients[f"db{i}", tunnel] = one.connect("db")
    for (name, step), client in clients.items():
        if step is tunnel:
            client.send(request("GET", "/ws", "Connection: Upgrade", "Upgrade: websocket"))
            assert client.response().status == 101

    def run(name, step, client):
        try:
            while not stop.is_set():
                step(client)
                counts[name] = counts.get(name, 0) + 1
        except Exception as fault:
            faults.append((name, fault))

    threads = [threading.Thread(target=run, args=(*key, client)) for key, client in clients.items()]
    [thread.start() for thread in threads]
    last = 8 if how == "SIGHUP" else 2
    versions = 0
    try:
        for i in range(1, last + 1):
            one.write(CONFIG, version=str(i), idle=f"{i}h", other=f', "{spare.address}"' * (i % 2), more=MORE * (i % 2))
            how == "SIGHUP" and one.hup()

            def serves():
                nonlocal versions
                versions += 1
                return one.get("/version").body == str(i).encode()

            wait_for(serves, 10, "the new version serves")
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert not faults and len(counts) == 12 and min(counts.values()) > 0, (faults, counts)
    requests = sum(n for name, n in counts.items() if name.startswith("web"))
    for (name, step), client in clients.items():  # still open, all of them
        step(client)
    assert not app.faults and not spare.faults
    wait_for(lambda: one.metric("fastproxy_requests_total", route="all", status_class="2xx") == requests + 4)
    wait_for(lambda: one.metric("fastproxy_connections", listener="web") == 8)
    assert one.metric("fastproxy_connections", listener="db") == one.metric("fastproxy_tcp_connections_total", listener="db") == 4
    assert one.metric("fastproxy_connections_accepted_total", listener="web") == 8 + versions
    assert one.metric("fastproxy_connections_accepted_total", listener="db") == 4
    assert one.metric("fastproxy_config_reloads_total", result="ok") == last and not one.metric("fastproxy_config_reloads_total", result="error")
    assert not one.metric("fastproxy_errors_total")
    for (_, step), client in clients.items():
        client.sock.close()
    wait_for(lambda: one.metric("fastproxy_requests_total", route="all", status_class="1xx") == 4, what="the tunnels are counted")
