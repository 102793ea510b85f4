"""Completes build/NAME after its core was built: links to the Python files, and the command with what a sanitizer needs.

build/NAME/fastproxy/ is the package: this tree's files by link, the core of that build for real. build/NAME/bin/fastproxy
runs it, so `FASTPROXY=build/NAME/bin/fastproxy pytest` tests it; build/NAME/env holds the variables for running Python itself on it.
"""

import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRELOAD = {"asan": "libasan.so", "tsan": "libtsan.so"}
OPTIONS = {
    "asan": {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:disable_coredump=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"},
    "tsan": {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"},
}


def environment(build):
    """What a process needs to run on that build; Python's own allocator would hide its blocks from a sanitizer."""
    env = {"PYTHONPATH": str(ROOT / "build" / build), "PYTHONSAFEPATH": "1", "FASTPROXY": str(ROOT / "build" / build / "bin" / "fastproxy")}
    if build in PRELOAD:
        library = subprocess.run(["gcc", f"-print-file-name={PRELOAD[build]}"], capture_output=True, text=True, check=True).stdout.strip()
        env |= {"LD_PRELOAD": str(pathlib.Path(library).resolve()), "PYTHONMALLOC": "malloc", **OPTIONS[build]}
    return env


def main(build):
    top = ROOT / "build" / build
    package = top / "fastproxy"
    for link in package.iterdir():
        if link.is_symlink():
            link.unlink()
    for path in (ROOT / "fastproxy").iterdir():
        if path.suffix != ".so" and path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    command = top / "bin" / "fastproxy"
    command.parent.mkdir(exist_ok=True)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment(build).items()]
    command.write_text("\n".join(["#!/bin/sh", *lines, f'exec {shlex.quote(sys.executable)} -m fastproxy "$@"', ""]))
    command.chmod(0o755)


if __name__ == "__main__":
    main(sys.argv[1])
