"""Another package's filter, balancer and parser (examples/cython_plugin), built against the installed wheel alone and at work."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from harness import answering
from harness.process import command
from harness.wait import SCALE

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/cython_plugin"
PYTHON = pathlib.Path(command() or sys.executable).with_name("python")  # of the environment that has fastproxy, Cython and setuptools
CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", filters: [$filter], routes: [{cluster: app}]}
clusters:
  - {name: app, balance: {name: $balancer}, endpoints: ["$one", "$two"]}
"""


def run(*argv, cwd, path=None):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run([str(word) for word in argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=100 * SCALE)


def built(folder, path=None):
    """The example installed into folder/site, from a copy of its own."""
    source = shutil.copytree(EXAMPLE, folder / "source")
    done = run(PYTHON, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
               "--target", folder / "site", source, cwd=folder, path=path)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built(tmp_path_factory.mktemp("plugin"))


def test_in_a_program(site, tmp_path):
    done = run(PYTHON, EXAMPLE / "run.py", cwd=tmp_path, path=site)
    assert done.stdout.splitlines() == [
        "without the key      401", "with a wrong one     401", *["with the key         200 first for cassim"] * 3,
        "while first is busy  200 second for cassim", "the slow one         200 first for cassim", "passed, refused      5 2"], done.stderr
    assert done.stderr == ""


def test_under_the_command(site, proxy, origin):
    """The names in the file are enough: the package's entry points say where they come from."""
    one, two = (origin(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + name)) for name in (b"one", b"two"))
    front = proxy(CONFIG, env={"PYTHONPATH": str(site)}, filter="example-key", balancer="example-fill", one=one.address, two=two.address)
    assert front.get("/").status == 401 and front.get("/", "X-Api-Key: open").status == 401
    for _ in range(4):
        reply = front.get("/", "X-API-KEY: sesame")
        assert (reply.status, reply.body) == (200, b"one")
    assert [request.get(b"x-tenant") for request in one.requests] == [b"cassim"] * 4 and not two.requests
    assert front.metric("fastproxy_requests_total", status_class="4xx") == 2


def test_the_parser(site, tmp_path):
    text = r"import fastproxy_example as e; print(e.count_heads(b'GET / HTTP/1.1\r\nHost: a\r\n\r\n' * 3 + b'GET'))"
    done = run(PYTHON, "-c", text, cwd=tmp_path, path=site)
    assert done.stdout == "3\n", done.stderr


def test_another_abi_is_an_import_error(tmp_path, proxy):
    """Built against the layouts of another version, imported beside this one."""
    where = run(PYTHON, "-c", "import fastproxy; print(fastproxy.__path__[0])", cwd=tmp_path).stdout.strip()
    other = shutil.copytree(where, tmp_path / "other/fastproxy", ignore=shutil.ignore_patterns("__pycache__"))
    ops = other / "core/ops.pxd"
    text, count = re.subn(r"CORE_ABI = \d+", "CORE_ABI = 999", ops.read_text())
    assert count == 1
    ops.write_text(text)
    site = built(tmp_path, path=other.parent)
    done = run(PYTHON, "-c", "import fastproxy_example", cwd=tmp_path, path=site)
    assert done.returncode == 1 and re.match(r"ImportError: .* built for ABI 999 .*: build it again", done.stderr.splitlines()[-1]), done.stderr
    file = tmp_path / "proxy.yaml"
    file.write_text("listeners: [{name: web, bind: '127.0.0.1:0', filters: [example-key], routes: [{direct_response: {status: 200}}]}]")
    for verb in (["run", "-c"], ["validate"]):
        done = run(command(), *verb, file, cwd=tmp_path, path=site)
        assert done.returncode == 1 and "filter `example-key` of fastproxy_example: " in done.stderr and "ABI 999" in done.stderr


def test_a_name_that_nobody_has(tmp_path):
    file = tmp_path / "proxy.yaml"
    file.write_text("listeners: [{name: web, bind: '127.0.0.1:0', routes: [{cluster: a}]}]\n"
                    "clusters: [{name: a, balance: {name: nobody}, endpoints: []}]")
    for verb in (["run", "-c"], ["validate"]):
        done = run(command(), *verb, file, cwd=tmp_path)
        assert done.returncode == 1 and "no balancer `nobody` is registered" in done.stderr
