"""Builds the one extension, `fastproxy._core`. FASTPROXY_BUILD chooses how: release (default), debug, asan or tsan.

The C file goes to build/cython, never beside the sources. A performance hint for a file of the core (a call that takes
the GIL to look for an exception) and an undeclared C function fail the build.
"""

import contextlib
import io
import os
import pathlib
import sys

from setuptools import Extension, setup

ROOT = pathlib.Path(__file__).resolve().parent
SOURCE = "fastproxy/_core.pyx"
GENERATED = pathlib.Path("build/cython")

# Alike in all builds. Wire bytes are read through pointers of several types, so no strict aliasing. The warnings that are off
# are about what Cython makes of a loop over an enum, and about writes to an eventfd.
CFLAGS = ["-std=gnu11", "-fno-strict-aliasing", "-fvisibility=hidden", "-fno-plt", "-Werror=implicit-function-declaration",
          "-Wno-unused-function", "-Wno-sign-compare", "-Wno-unused-result", "-Wno-unused-but-set-variable"]
SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", "-DFP_DEBUG"]
BUILDS = {  # name: (compiler flags, linker flags)
    "release": (["-O2", "-g1", "-fno-semantic-interposition", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
                ["-Wl,-z,relro,-z,now"]),
    "debug": (["-O1", "-g", "-UNDEBUG", "-DFP_DEBUG"], []),
    "asan": ([*SANITIZE, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], ["-fsanitize=address,undefined"]),
    "tsan": ([*SANITIZE, "-fsanitize=thread"], ["-fsanitize=thread"]),
}
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False}


class Tee(io.TextIOBase):
    """Passes on what Cython says and keeps the performance hints."""

    def __init__(self, out):
        self.out, self.text = out, ""

    def write(self, text):
        self.text += text
        return self.out.write(text)

    def hints(self):
        return [line for line in self.text.splitlines() if line.startswith("performance hint") and ("fastproxy/core" in line or SOURCE in line)]


def core():
    from Cython.Build import cythonize

    build = os.environ.get("FASTPROXY_BUILD", "release")
    if build not in BUILDS:
        sys.exit(f"FASTPROXY_BUILD={build}: one of {', '.join(BUILDS)}")
    cflags, ldflags = BUILDS[build]
    headers = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "fastproxy").rglob("*.h"))
    extension = Extension("fastproxy._core", [SOURCE], include_dirs=["fastproxy", "fastproxy/core"], depends=headers,
                          extra_compile_args=CFLAGS + cflags, extra_link_args=ldflags, libraries=["m"])
    heard = Tee(sys.stderr)
    with contextlib.redirect_stderr(heard):
        extensions = cythonize([extension], build_dir=str(GENERATED), compiler_directives=DIRECTIVES, emit_linenums=True)
    if heard.hints():
        (GENERATED / SOURCE).with_suffix(".c").unlink(missing_ok=True)  # or the next build would find it fresh
        sys.exit("the core takes the GIL where it must not (a function without `noexcept`):\n" + "\n".join(heard.hints()))
    return extensions


setup(ext_modules=core() if (ROOT / SOURCE).exists() else [])
