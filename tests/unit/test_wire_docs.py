"""docs/snapshot_protocol.md: its test vectors are what this version sends and understands, its tables name what there is."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

import msgpack
import pytest

from fastproxy.model.resources import KINDS
from fastproxy.tables.options import RESOURCES
from fastproxy.wire import messages
from fastproxy.wire.frames import Decoder, FrameError

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "snapshot_protocol.md").read_text()
VECTORS = re.findall(r"^\*\*(.+)\*\*\n\n```\n(\{.*\})\n([0-9a-f\n]+)\n```$", PAGE, re.M)
BAD = re.findall(r"^\| ([^|]+) \| `([0-9a-f]+)` \|", PAGE, re.M)
FROM_SOURCE = ("snapshot", "delta", "report, asked for")


@pytest.mark.parametrize("name, text, digits", VECTORS, ids=[row[0] for row in VECTORS])
def test_vector(name, text, digits):
    message, frame = json.loads(text), bytes.fromhex(digits.replace("\n", ""))
    payload = msgpack.packb(message)
    fresh = (len(payload).to_bytes(4, "big") + payload).hex()
    assert frame.hex() == fresh, f"the vector should be:\n{textwrap.fill(fresh, 96)}"
    decoder = Decoder()
    decoder.feed(frame)
    if name.startswith(FROM_SOURCE):
        found = messages.from_source(decoder.take())
    else:
        found = messages.from_proxy(decoder.take())
    assert msgpack.unpackb(messages.encode(found)[4:]) == message  # as records, and back


def test_there_are_vectors_of_every_kind():
    assert {json.loads(text)["type"] for _, text, _ in VECTORS} == {"hello", "snapshot", "delta", "ack", "nack", "resync", "report"} and len(BAD) == 8


@pytest.mark.parametrize("name, digits", BAD)
def test_bad_vector(name, digits):
    decoder = Decoder()
    decoder.feed(bytes.fromhex(digits))
    with pytest.raises(FrameError):
        messages.from_source(decoder.take())


def test_the_tables_are_complete():
    for kind in KINDS:
        row = re.search(rf"^\| `{kind}` \| (.*) \|$", PAGE, re.M)[1]
        for key, option in RESOURCES[kind].options.items() if kind in RESOURCES else ():
            assert f"`{key}`" in row and option.built
    for kind in ("hello", "snapshot", "delta", "ack", "nack", "resync"):
        model = getattr(messages, kind.capitalize())
        row = re.search(rf"^\| `{kind}` \| \w+ \| (.*?) \|", PAGE, re.M)[1]
        assert re.findall(r"`(\w+)\??`", row) == [name for name in model.__struct_fields__ if name not in ("seq", "ext")]
    names = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.partition("| code |")[2].partition("A message that")[0], re.M))))
    assert {"type", "value", "range", "missing", "unknown_key", "conflict", "duplicate", "not_built", "unknown_kind", "unknown_cluster", "unknown_route_table",
            "apply", "malformed", "internal"} == names


def test_the_source_of_the_page_is_python():
    compile(PAGE.partition("```python\n")[2].partition("```")[0], "page", "exec")


def test_the_layers():
    """The protocol knows neither the proxy nor the core; a proxy that runs from a file knows nothing of the protocol."""
    def loaded(module):
        text = f"import sys, {module}; print('\\n'.join(sys.modules))"
        return set(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split())
    assert not {one for one in loaded("fastproxy.wire.source") if one.startswith(("fastproxy.proxy", "fastproxy._core", "fastproxy.cli", "uvloop", "cryptography"))}
    assert not {one for one in loaded("fastproxy.proxy.main, fastproxy.proxy.admin") if one.startswith(("fastproxy.wire", "fastproxy.model.resources", "cryptography", "fastproxy.proxy.snapshots"))}
    assert "cryptography" not in loaded("fastproxy.proxy.snapshots")
