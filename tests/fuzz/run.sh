#!/bin/bash
# Coverage-guided fuzzing under AddressSanitizer and UBSan, of the parsers and of the data path: tests/fuzz/run.sh [SECONDS_EACH] [TARGET...]
#
# Needs clang with libFuzzer, on Debian 12: apt-get install clang-14 libclang-rt-14-dev; and a Python with Cython and pytest
# (PYTHON, else .venv/bin/python). Corpora grow in build/fuzz/; a crash leaves its input there and ends the run with an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
python=${PYTHON:-.venv/bin/python}
clang=${CLANG:-$(command -v clang || command -v clang-14 || command -v clang-16 || true)}
if [ -z "$clang" ] || [ ! -f "$("$clang" -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a" ]; then
    echo "clang with libFuzzer is missing; as root: apt-get install -y clang-14 libclang-rt-14-dev" >&2
    exit 1
fi
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
out=build/fuzz
mkdir -p "$out"
TMPDIR=$(mktemp -d)                # of the sockets of fuzz_conn
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
"$python" tests/fuzz/seeds.py "$out/seeds"
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls fuzz_*.pyx | sed 's/\.pyx$//')
for target; do
    "$python" -m cython -3 --line-directives -I . -I fastproxy -I tests/fuzz "tests/fuzz/$target.pyx" -o "$out/$target.c"
    flags="-g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -w"
    libraries=
    options="-max_len=1200 -timeout=5"
    if [ "$target" = fuzz_conn ]; then
        # Python makes the plans, with this tree's policy layer. What it does not free is not ours; the target counts for itself.
        options="-max_len=3000 -timeout=20"
        # Cython's own code for Python adds 0 to null pointers.
        flags="$flags -fno-sanitize=pointer-overflow -DFP_DEBUG -DFUZZ_PYTHON=\"$(realpath -s "$python")\" -I tests/fuzz -I fastproxy/core"
        libraries=$("$python" -c 'import sysconfig as s; at = s.get_config_var("LIBDIR"); print("-L" + at, "-Wl,-rpath," + at, "-lpython" + s.get_config_var("LDVERSION"))')
    fi
    # shellcheck disable=SC2086
    "$clang" $flags -I fastproxy -I "$include" -c "$out/$target.c" -o "$out/$target.o"
    # Elsewhere Python is never started: what Cython's module code wants of it may stay unresolved.
    [ -n "$libraries" ] || objcopy --weaken "$out/$target.o"
    # shellcheck disable=SC2086
    "$clang" -g -fsanitize=fuzzer,address,undefined "$out/$target.o" $libraries -o "$out/$target"
    mkdir -p "$out/corpus/$target" "$out/seeds/$target"
    echo "== $target: $(head -1 "tests/fuzz/$target.pyx" | cut -c3-)"
    # shellcheck disable=SC2086
    (cd "$out" && ASAN_OPTIONS="detect_leaks=$([ -n "$libraries" ] && echo 0 || echo 1)" \
        "./$target" -max_total_time="$seconds" $options -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
        -dict=../../tests/fuzz/h1.dict "corpus/$target" "seeds/$target" 2>&1 |
        grep -vE '^(Dictionary|INFO|"|#+ (End|Recommended))|peak_rss|slowest')
done
