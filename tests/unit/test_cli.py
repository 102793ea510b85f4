"""The command: exit codes, what is refused by name, and what it must not import."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading

import pytest
from stand_in import Proxy

from fastproxy.cli.main import NOT_BUILT, main, parser
from fastproxy.cli.stat import stat
from fastproxy.proxy.admin import Admin
from fastproxy.version import VERSION


def run(*argv, **env):
    done = subprocess.run([sys.executable, "-m", "fastproxy", *argv], capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_version():
    assert run("--version") == (0, f"fastproxy {VERSION}\n", "")
    assert json.loads(run("version", "-v", "-o", "json")[1])["version"] == VERSION


@pytest.mark.parametrize("verb", NOT_BUILT)
def test_what_is_not_built_is_refused_by_name(verb, capsys):
    assert main(verb.split()) == 2
    assert f"'{verb}' is not built yet" in capsys.readouterr().err


def paths(one, path=()):
    """Of every command there is."""
    yield path
    for action in one._actions:
        for name, sub in action.choices.items() if isinstance(action, argparse._SubParsersAction) else ():
            yield from paths(sub, (*path, name))


@pytest.mark.parametrize("argv", [[*path, "--help"] for path in paths(parser())], ids=" ".join)
def test_help_has_an_example(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0 and "example: fastproxy" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["no-such-verb"], ["version", "--verb"], ["proxy"], ["stat", "--window", "5"], ["completion", "tcsh"]])
def test_usage_errors(argv):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2


@pytest.fixture
def service(tmp_path):
    """An admin address in a thread of its own: its socket's path."""
    loop = asyncio.new_event_loop()
    admin = Admin(Proxy(), "admin").open(f"unix:{tmp_path}/fastproxy.sock")
    loop.run_until_complete(admin.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield tmp_path / "fastproxy.sock"
    asyncio.run_coroutine_threadsafe(admin.close(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_stat(service, capsys, monkeypatch):
    assert stat(f"unix:{service}", "table") == 0
    table = capsys.readouterr().out
    assert "99.30%" in table and "127.0.0.1:9080" in table and "no_route" in table
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(service.parent))
    assert stat(None, "json") == 0
    assert json.loads(capsys.readouterr().out)["routes"][0]["requests"] == 1000


def test_stat_without_an_answer(tmp_path, capsys, monkeypatch):
    assert stat(f"unix:{tmp_path}/none.sock", "table") == 3
    assert stat("127.0.0.1:1", "table") == 3
    monkeypatch.delenv("FASTPROXY_ADMIN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("fastproxy-a.sock", "fastproxy-b.sock"):
        (tmp_path / name).touch()
    assert stat(None, "table") == stat("localhost", "table") == 2
    assert "fastproxy-a.sock" in capsys.readouterr().err


def test_the_command_itself_imports_little():
    text = "import sys; sys.argv = ['fastproxy']; import fastproxy.cli.main as m; m.parser(); print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "uvloop", "h11", "msgspec", "yaml", "fastproxy._core"} & set(loaded)
