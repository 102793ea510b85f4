#!/bin/sh
# Finds or installs what a Makefile target needs of the system: `tools/setup.sh build|test`. Prints the Python to use.
# As root on Debian it installs what is missing; otherwise it says the line to run and stops.
set -eu

usable() {  # a Python of 3.10 or later with headers and venv
    command -v "$1" >/dev/null 2>&1 && "$1" - <<'PY' 2>/dev/null
import os, sys, sysconfig, venv, ensurepip
sys.exit(not (sys.version_info >= (3, 10) and os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))))
PY
}

python() {
    for one in ${PYTHON:+"$PYTHON"} python3 /usr/bin/python3; do
        if usable "$one"; then echo "$one"; return; fi
    done
}

missing=""
need() {  # COMMAND PACKAGES...: the packages, if there is no such command
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || { shift; missing="$missing $*"; }
}

[ -n "$(python)" ] || missing="$missing python3 python3-venv python3-dev"
need gcc gcc libc6-dev
[ -e /usr/include/stdlib.h ] || need no-such-command libc6-dev
need make make
if [ "$1" = test ]; then
    need curl curl
    need nginx nginx-light
    need valgrind valgrind
fi

if [ -n "$missing" ]; then
    line="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && $line; } >&2
    else
        echo "missing packages; run as root: $line" >&2
        exit 1
    fi
fi
found=$(python)
[ -n "$found" ] || { echo "no Python 3.10 or later with headers and venv" >&2; exit 1; }
echo "$found"
