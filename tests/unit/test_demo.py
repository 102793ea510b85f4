"""What `make run` promises: the lines it prints work, and Ctrl-C leaves nothing behind."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

from harness.client import RawClient
from harness.wait import SCALE

DEMO = pathlib.Path(__file__).resolve().parents[2] / "tools/demo.py"


@pytest.fixture
def demo():
    """(process, its lines up to the last of the explanation)"""
    process = subprocess.Popen([sys.executable, DEMO], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    late = threading.Timer(15 * SCALE, process.kill)
    late.start()
    lines = []
    while not lines or "Ctrl-C" not in lines[-1]:
        line = process.stdout.readline()
        if not line:
            process.wait()
            pytest.fail("\n".join([*lines, process.stderr.read()]))
        lines.append(line.rstrip())
    yield process, lines
    process.terminate()  # killed by `late` if that is not enough
    process.wait()
    late.cancel()
    process.stdout.close()
    process.stderr.close()


def get(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5 * SCALE) as response:
        return response.read().decode()


def test_every_line_works(demo):
    process, lines = demo
    addresses = dict(line.split()[1:] for line in lines if line.startswith("listening "))
    text = "\n".join(lines)
    assert f"curl http://{addresses['web']}/ " in text and f"curl http://{addresses['raw']}/ " in text
    with RawClient(addresses["web"]) as client:
        names = [client.get().body.split()[0] for _ in range(300)]
    assert 5 <= names.count(b"reviews-v2") <= 70 and names.count(b"reviews-v1") == 300 - names.count(b"reviews-v2")  # 30 expected, deviation 5.2
    assert get(f"http://{addresses['web']}/v2/x").startswith("reviews-v2 got:\n  GET /v2/x HTTP/1.1\n")
    assert "x-forwarded-for" in get(f"http://{addresses['web']}/").lower()
    raw = get(f"http://{addresses['raw']}/").lower()
    assert raw.startswith("raw-origin got:") and "x-forwarded" not in raw
    admin = re.search(r"--admin (\S+)", text)[1]
    out = subprocess.run([sys.executable, "-m", "fastproxy", "stat", "--admin", admin], capture_output=True, text=True, timeout=20 * SCALE)
    assert out.returncode == 0 and "canary" in out.stdout and "raw" in out.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_clean(demo, number):
    process, lines = demo
    web = next(line.split()[2] for line in lines if line.startswith("listening web"))
    folder = pathlib.Path(re.search(r"Change (\S+),", "\n".join(lines))[1]).parent
    (child,) = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with RawClient(web) as idle:
        assert idle.get().status == 200
        process.send_signal(number)
        assert process.wait(10 * SCALE) == 0
        assert idle.closed()
    assert not os.path.exists(f"/proc/{child}") and not folder.exists()
    assert "Traceback" not in process.stderr.read()
    with pytest.raises(ConnectionRefusedError):
        RawClient(web)
