"""Compiles the bench's C programs on demand, once per source, outside the source tree."""
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


class Missing(Exception):
    """Something that the bench needs is not on this machine; the text says what and how to get it."""


def cache_dir():
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        (base / "fastproxy-bench").mkdir(parents=True, exist_ok=True)
        return base / "fastproxy-bench"
    except OSError:
        return Path(tempfile.mkdtemp(prefix="fastproxy-bench-"))


def program(name):
    """Path of the compiled bench/NAME.c."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not compiler:
        raise Missing("no C compiler (Debian package gcc)")
    source = HERE / f"{name}.c"
    flags = ["-O2", "-Wall"]
    key = hashlib.sha256(source.read_bytes() + (HERE / "net.h").read_bytes() + repr((compiler, flags)).encode())
    out = cache_dir() / f"{name}-{key.hexdigest()[:16]}"
    if not out.exists():
        part = out.with_name(f"{out.name}.{os.getpid()}")
        done = subprocess.run([compiler, *flags, "-o", str(part), str(source)], capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"cannot compile {source.name}: {done.stderr.strip()[-400:]}")
        part.replace(out)
    return str(out)
