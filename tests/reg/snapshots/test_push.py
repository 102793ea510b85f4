"""`fastproxy push` and the example: sources of ours, as their users run them."""

import subprocess
import sys

import pytest

from harness.process import ROOT, command
from harness.wait import SCALE

FILE = """
listeners:
- {name: web, bind: "127.0.0.1:0", routes: [{match: {path: /version}, direct_response: {status: 200, body: pushed}}, {cluster: app}]}
clusters:
- {name: app, endpoints: ["%s"]}
"""


@pytest.fixture
def push(source, tmp_path):
    """push(text) -> (exit code, output): on the socket that `following` connects to."""
    source.close()

    def run(text, *args):
        (tmp_path / "p.yaml").write_text(text)
        done = subprocess.run([command(), "push", str(tmp_path / "p.yaml"), "--snapshots", f"unix:{source.path}", "--timeout", str(20 * SCALE), *args],
                              capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    return run


def test_push(push, following, origin):
    app = origin()
    one = following()
    code, text = push(FILE % app.address)
    assert code == 0 and text.startswith("web-1: ack ")
    one.wait_ready()
    assert one.get("/version").body == b"pushed" and one.get("/").status == 200
    code, text = push("resources: {cluster: {app: {balance: best, endpoints: []}}, policy: {x: {}}}")
    assert code == 1 and "web-1: nack" in text and "resources.cluster.app.balance: unknown balancer `best`" in text and "resources.policy.x: policies are not built yet" in text
    assert one.get("/").status == 200
    code, text = push(FILE % "127.0.0.1:1", "-o", "json")
    assert code == 0 and '"answer": "ack"' in text
    assert one.get("/").status == 503


def test_the_example(source, following):
    one = following()
    source.close()
    example = subprocess.Popen([sys.executable, str(ROOT / "examples" / "snapshot_source.py"), source.path, "0.05"], stdout=subprocess.PIPE, text=True)
    try:
        one.wait_ready()
        assert one.get("/hello").body == b"hello\n"
        acks = 0
        while acks < 3:
            line = example.stdout.readline()
            assert line.startswith(("published ", "web-1 Ack(version="))
            acks += line.startswith("web-1")
    finally:
        example.kill()
        example.wait()
        example.stdout.close()
    assert one.get("/hello").body == b"hello\n"
    assert len((ROOT / "examples" / "snapshot_source.py").read_text().splitlines()) < 40
