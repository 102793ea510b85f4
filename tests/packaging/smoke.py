"""Run by the Python of an environment that holds nothing but the installed wheel."""

import pathlib
import sys

import fastproxy
from fastproxy import _core

here = pathlib.Path(fastproxy.__file__)
assert "site-packages" in here.parts, f"the tree is on the path: {here}"
head = _core.parse_request(b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n")
assert (head["method"], head["path"], head["query"], head["host"]) == (b"GET", b"/x", b"y", b"a"), head
try:
    _core.parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
    sys.exit("a framing conflict was accepted")
except ValueError as error:
    assert str(error) == "framing_conflict", error
for name in ("_core.pxd", "core/h1.pxd", "core/errors_gen.pxi"):
    assert (here.parent / name).exists(), f"the wheel lacks {name}"
print("smoke: fine,", fastproxy.__version__)
