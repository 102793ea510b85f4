"""`make test`: everything that has to pass, in order; the last line printed is the total.

1. generated files are fresh
2. the suite on the AddressSanitizer + UBSan build; several threads against each other under ThreadSanitizer
3. the suite on the release build
4. sdist, a wheel from it, an empty environment with that alone: the tests of what is installed, and somebody else's extension
5. instructions per request within the record
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from variant import environment

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "build" / "package"
IN_PROCESS = ["unit/test_h1_parse.py", "unit/test_h1_oracle.py", "unit/test_match.py", "unit/test_regex.py", "unit/test_embed.py", "unit/test_core.py"]
STEADY = ["http", "tcp_rr", "one_route", "routes"]  # those whose count does not depend on how bytes happen to be cut
BLACK_BOX = ["reg", "adversity"]  # only the proxy is sanitized: the runner, and the programs that it starts, stay as they are
RACES = ["adversity/test_races.py"]


def say(text):
    print(f"\n=== {text}", flush=True)


def run(*argv, cwd=ROOT, **env):
    return subprocess.run([str(word) for word in argv], cwd=cwd, env={**os.environ, **env}).returncode == 0


def suite(name, paths, **env):
    """Runs pytest over paths and returns (passed, failed). A run that ends without a summary counts as one failure."""
    say(f"the suite on the {name} build")
    here = env.get("PYTHONPATH", ROOT)  # `-m` and `-c` put it first in sys.path
    run(sys.executable, "-c", "from fastproxy import _core; print(_core.__file__)", cwd=here, **env)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", "--durations=5", *(str(ROOT / "tests" / path) for path in paths)]
    process = subprocess.Popen(argv, cwd=here, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, errors="replace")
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.search(r"\d+ (passed|failed|error)", line):
            last = line
    code = process.wait()
    count = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    failed = count.get("failed", 0) + count.get("error", 0)
    return count.get("passed", 0), failed or int(code != 0)


def package():
    """An sdist, a wheel built from nothing but it, and an empty environment with that wheel; its command, or None."""
    say("sdist, wheel, empty environment")
    shutil.rmtree(PACKAGE, ignore_errors=True)
    if not run(sys.executable, "-m", "build", "-q", "--outdir", PACKAGE / "dist", ROOT):  # builds the wheel from the sdist
        return None
    (wheel,) = (PACKAGE / "dist").glob("*.whl")
    python = PACKAGE / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    building = subprocess.check_output([sys.executable, ROOT / "tools/requirements.py", "build"], text=True).split()  # an extension of somebody else's
    fine = (run(sys.executable, "-m", "venv", PACKAGE / "venv") and run(*pip, wheel)
            and run(python, ROOT / "tests" / "packaging" / "smoke.py", cwd=PACKAGE)
            and run(*pip, *building))
    return python.with_name("fastproxy") if fine else None


def main():
    started = time.monotonic()
    faults, passed, failed = [], 0, 0
    if not run("make", "-s", "check"):
        faults.append("a generated file is stale: make docs")
    if not run("make", "-s", "build", "asan", "build/tsan/built") or not run(sys.executable, ROOT / "tools" / "variant.py", "tsan"):
        sys.exit("the build failed")
    asan, tsan = environment("asan"), environment("tsan")
    for name, paths, env in (("AddressSanitizer", IN_PROCESS, asan),
                             ("AddressSanitizer", BLACK_BOX, {"FASTPROXY": asan["FASTPROXY"], "FASTPROXY_TEST_SCALE": "3"}),
                             ("ThreadSanitizer", RACES, {"FASTPROXY": tsan["FASTPROXY"], "FASTPROXY_TEST_SCALE": "5"}),
                             ("release", ["unit", *BLACK_BOX], {})):
        good, bad = suite(name, paths, **env)
        passed, failed = passed + good, failed + bad
    command = package()
    if command:
        good, bad = suite("installed", ["packaging", "reg/lifecycle"], FASTPROXY=str(command))
        passed, failed = passed + good, failed + bad
    else:
        faults.append("the package")
    say("user instructions per request, against bench/instructions.json")
    if not run(sys.executable, "-m", "bench", "instructions", "--check", *(f"--scenario={name}" for name in STEADY)):
        faults.append("instructions per request: over the record by more than 3 %")
    say(f"{time.monotonic() - started:.0f} s" + "".join(f"; FAILED: {fault}" for fault in faults))
    print(f"{passed} passed, {failed + len(faults)} failed", flush=True)
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
