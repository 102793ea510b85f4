"""Several workers under load while the policy thread swaps plans, opens and closes listeners, reads every counter and the
access log, and drains; cores that start and stop. For ThreadSanitizer (`make tsan`); elsewhere for what a swap may break."""

import itertools
import os
import subprocess
import sys
import threading

import pytest

from harness import wait_for
from harness.client import request
from harness.process import ROOT, command
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
workers: 4
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    access_log: {path: $dir/access.log}
    routes:
      - {match: {path: /version}, direct_response: {status: 200, body: "$version"}}
      - split: [{cluster: app, weight: 3}, {cluster: other, weight: 1}]
  - {name: ux, bind: "unix:$dir/l.sock", protocol: http, routes: [{cluster: app}]}
  - {name: tcp, bind: "127.0.0.1:0", protocol: tcp, cluster: opaque}
  $more
clusters:
  - {name: app, endpoints: [$endpoints], balance: $balance, limits: {connections: 6}}
  - {name: opaque, endpoints: [$endpoints]}
  - {name: other, endpoints: ["$first", "127.0.0.1:1"]}
"""
MORE = '- {name: more, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: other}]}'
PLANS = 60


def test_plans_swap_under_load(proxy, origin):
    first, second = origin(keep=False), origin(keep=False, kind="unix")
    ends = {"first": first.address}
    ways = itertools.cycle([(f'"{first.address}"', "ewma", ""), (f'"{first.address}", "{second.address}"', "round_robin", MORE),
                            (f'"{second.address}"', "least_request", ""), (f'"{second.address}", "{first.address}"', "random", MORE)])
    endpoints, balance, more = next(ways)
    one = proxy(CONFIG, version="0", endpoints=endpoints, balance=balance, more=more, **ends)
    stop, done, faults = threading.Event(), [0] * 4, []

    def load(number):
        """Requests over a conn each few, one of them long; some are given up."""
        listener = ("web", "web", "ux", "tcp")[number]
        while not stop.is_set():
            try:
                with one.connect(listener) as client:
                    for _ in range(5):
                        reply = client.get("/") if done[number] % 3 else client.get("/", "Connection: close")
                        if reply.status not in (200, 503):
                            faults.append(reply)
                        done[number] += 1
                        if reply.get(b"connection"):
                            break
                    client.send(request("GET", "/given-up"))
            except (OSError, EOFError) as fault:
                faults.append((listener, fault))

    def look():
        try:
            while not stop.is_set():
                one.stats()
                one.metrics()
        except (OSError, EOFError, ValueError) as fault:      # 503 is no JSON
            faults.append(("admin", fault))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)] + [threading.Thread(target=look)]
    [thread.start() for thread in threads]
    try:
        for version in range(1, PLANS + 1):
            endpoints, balance, more = next(ways)
            one.write(CONFIG, version=str(version), endpoints=endpoints, balance=balance, more=more)
            one.hup()
            wait_for(lambda: one.get("/version").body == str(version).encode(), 10, "the new version serves")
        assert not faults
        one.terminate()             # and nobody stops for that
        assert one.wait_exit(40) == 0
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert all(done)


EMBEDDED = """
import asyncio, sys
from fastproxy import Proxy

def config(version, workers):
    return {"workers": workers, "listeners": [
        {"name": "web", "bind": "127.0.0.1:0", "protocol": "http", "routes": [
            {"match": {"path": "/version"}, "direct_response": {"status": 200, "body": version}}, {"cluster": "back"}]},
        {"name": "back", "bind": "unix:" + sys.argv[1], "protocol": "http", "routes": [
            {"direct_response": {"status": 200, "body": "back"}}]}],
        "clusters": [{"name": "back", "endpoints": ["unix:" + sys.argv[1]]}]}

async def ask(address, target):
    reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
    writer.write(b"GET %s HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n" % target)
    answer = await reader.read()
    writer.close()
    return answer

async def main():
    for turn in range(int(sys.argv[2])):
        workers = (1, 3, 0)[turn % 3]
        async with Proxy.from_config(config("a", workers)) as proxy:
            address = proxy.addresses["web"]
            many = asyncio.gather(*(ask(address, b"/%d" % i) for i in range(20)))
            for version in "bc":
                await proxy.apply(config(version, workers))
                proxy.stats()
                assert (await ask(address, b"/version")).endswith(version.encode())
            assert all(answer.endswith(b"back") for answer in await many)
    print("fine")

asyncio.run(main())
"""


def test_cores_start_swap_and_stop(tmp_path):
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from variant import environment
    finally:
        sys.path.pop(0)
    build = command().split(os.sep)[-3]
    env = environment(build) if build in ("debug", "asan", "tsan") else {"PYTHONPATH": str(ROOT)}
    if build == "asan":
        pytest.skip("the interpreter on asyncio is not what this is about")
    done = subprocess.run([sys.executable, "-c", EMBEDDED, str(tmp_path / "back.sock"), "12"], env={**os.environ, **env},
                          capture_output=True, text=True, timeout=100 * SCALE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-8000:]
