"""The scripts of `completion` complete verbs, options, choices and files, in the shells that are here."""

import shutil
import subprocess

import pytest

from harness.process import command

needs = {name: pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here") for name in ("bash", "zsh", "fish")}


def script(shell):
    return subprocess.run([command(), "completion", shell], capture_output=True, text=True, check=True).stdout


CASES = [("fastproxy st", {"stat"}), ("fastproxy proxy ", {"config", "drain", "log"}), ("fastproxy proxy log --t", {"--ttl"}),
         ("fastproxy stat --admin unix:/x -o ", {"table", "json"}), ("fastproxy completion z", {"zsh"}), ("fastproxy check -c pro", {"proxy.yaml"}),
         ("fastproxy validate pro", {"proxy.yaml"}), ("fastproxy stat --window ", set())]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "proxy.yaml").touch()
    return tmp_path


@needs["bash"]
@pytest.mark.parametrize("line, wanted", CASES)
def test_bash(folder, line, wanted):
    words = line.split(" ")
    text = script("bash") + f"""
COMP_WORDS=({' '.join(word or "''" for word in words)}); COMP_CWORD={len(words) - 1}
_fastproxy; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "--norc", "-u", "-c", text], capture_output=True, text=True, cwd=folder)
    found = {word for word in done.stdout.split("\n") if word}
    assert done.stderr == "" and (found == wanted or wanted <= found and line.endswith("proxy ") and all(word in wanted or word[0] == "-" for word in found))


@needs["zsh"]
@pytest.mark.parametrize("line, wanted", CASES)
def test_zsh(folder, line, wanted):
    """compadd and _files stand in for the line editor's own, which answer only there."""
    words = line.split(" ")
    text = f"""
compdef() {{ }}
compadd() {{ shift; print -l -- "$@"; }}
_files() {{ print -l -- *(N); }}
{script("zsh")}
words=({' '.join(word or "''" for word in words)}); CURRENT={len(words)}
_fastproxy"""
    done = subprocess.run(["zsh", "-f", "-c", text], capture_output=True, text=True, cwd=folder)
    found = {word for word in done.stdout.split("\n") if word.startswith(words[-1]) and word}
    assert done.stderr == "" and wanted <= found and (wanted or not found)


@needs["fish"]
@pytest.mark.parametrize("line, wanted", CASES)
def test_fish(folder, line, wanted):
    done = subprocess.run(["fish", "--no-config", "-c", script("fish") + f"\ncomplete -C '{line}'"], capture_output=True, text=True, cwd=folder,
                          env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    found = {row.split("\t")[0] for row in done.stdout.splitlines()}
    assert done.stderr == "" and wanted <= found and (wanted or not found)
