"""Frames and messages: any pieces give the same frames; what is hostile is refused in words, in little time and memory."""

import msgpack
import msgspec
import pytest
from hypothesis import given, strategies as st

from fastproxy.tables.options import RESOURCES, SECTIONS
from fastproxy.wire import messages
from fastproxy.wire.frames import MAX_BYTES, Decoder, FrameError, frame
from fastproxy.wire.messages import Ack, Ask, Delta, Malformed, Nack, Packed, Refused, Snapshot, features, from_proxy, from_source, removed_of, resources_of


def took(decoder):
    out = []
    while (payload := decoder.take()) is not None:
        out.append(payload)
    return out


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_any_pieces_give_the_same_frames(payloads, sizes):
    stream, decoder, out, at = b"".join(map(frame, payloads)), Decoder(), [], 0
    for i in range(len(stream) + 1):
        size = sizes[i % len(sizes)]
        decoder.feed(stream[at:at + size])
        out += took(decoder)
        at += size
    assert out == payloads and not decoder.partial


@pytest.mark.parametrize("size", [0, MAX_BYTES + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_at_once(size):
    decoder = Decoder()
    decoder.feed(size.to_bytes(4, "big"))
    for _ in range(2):
        with pytest.raises(FrameError, match=f"a frame of {size} bytes"):
            decoder.take()


def test_a_frame_of_the_greatest_length():
    decoder = Decoder()
    decoder.feed(MAX_BYTES.to_bytes(4, "big"))
    for _ in range(64):
        assert decoder.take() is None and decoder.partial
        decoder.feed(bytes(1 << 20))
    assert len(decoder.take()) == MAX_BYTES and not decoder.partial
    with pytest.raises(ValueError, match="longer than 64 MiB"):
        frame(bytes(MAX_BYTES + 1))


def pack(value):
    return msgpack.packb(value)


def packed(value):
    return Packed(pack(value))


def test_messages_of_a_source():
    one = from_source(pack({"resources": {"cluster": {"a": {}}}, "version": "1", "type": "snapshot", "ext": [1, b"x"], "seq": 2**63 - 1}))
    assert type(one) is Snapshot and (one.version, one.seq, bytes(one.ext)) == ("1", 2**63 - 1, pack([1, b"x"]))
    assert resources_of(one.resources) == {"cluster": {"a": packed({})}}
    two = from_source(pack({"type": "delta", "base": "1", "version": "2", "set": None, "remove": {"cluster": ["a", "b"]}}))
    assert type(two) is Delta and resources_of(two.set) == {} and removed_of(two.remove) == {"cluster": ["a", "b"]}
    assert type(from_source(pack({"type": "report"}))) is Ask


def test_answers():
    for one in (Ack(version="1", seq=3), Nack(version=None, errors=messages.faults_of([(("resources", "cluster", "a b", 0), False, "value", "no\nway")]))):
        payload = messages.encode(one)[4:]
        assert from_proxy(payload) == one and msgpack.unpackb(payload)["type"] == type(one).__name__.lower()
    fault = from_proxy(payload).errors[0]
    assert (fault.path, fault.message) == ('resources.cluster["a b"][0]', "no\\nway")
    assert repr(Ack(version="1")) == "Ack(version='1')"


REFUSED = [
    ({}, "type", "missing", None),
    ({"type": 3, "version": "1"}, "type", "type", "1"),
    ({"type": "hello"}, "type", "type", None),
    ({"type": "snapshot", "version": "1"}, "resources", "missing", "1"),
    ({"type": "snapshot", "version": 1, "resources": {}}, "version", "type", None),
    ({"type": "snapshot", "version": "", "resources": {}}, "version", "type", ""),
    ({"type": "snapshot", "version": "x" * 257, "resources": {}}, "version", "type", None),
    ({"type": "snapshot", "version": "1", "resources": {}, "extra": 1}, "extra", "unknown_key", "1"),
    ({"type": "snapshot", "version": "1", "resources": {}, "seq": -1}, "seq", "type", "1"),
    ({"type": "snapshot", "version": "1", "resources": {}, "seq": "1"}, "seq", "type", "1"),
    ({"type": "snapshot", "version": "1", "resources": {}, "base": "0"}, "base", "unknown_key", "1"),
    ({"type": "delta", "version": "1"}, "base", "missing", "1"),
    ({"type": "report", "version": ["1"]}, "version", "unknown_key", None),
]


@pytest.mark.parametrize("message, path, code, version", REFUSED)
def test_what_can_be_answered_is(message, path, code, version):
    with pytest.raises(Refused) as caught:
        from_source(pack(message))
    (fault,) = caught.value.faults
    assert (fault.path, fault.code, caught.value.version) == (path, code, version) and fault.message


def test_the_seq_of_a_refused_message_is_known():
    with pytest.raises(Refused) as caught:
        from_source(pack({"type": "snapshot", "version": "1", "seq": 5, "x": 1, "resources": {}}))
    assert caught.value.seq == 5


DEEP = 500_000
MALFORMED = {
    "not a map": b"\x01", "nil": b"\xc0", "reserved byte": b"\xc1", "a list": b"\x91\x80", "trailing": b"\x80\xc0", "cut": b"\x82\xa1a\x01",
    "repeated key": b"\x82\xa4type\xa6report\xa4type\xa6report", "key is a number": b"\x82\xa4type\xa6report\x01\x02", "key is a map": b"\x81\x80\x01",
    "too many keys": pack({str(i): i for i in range(17)}), "claims 4 G entries": b"\xdf\xff\xff\xff\xff", "claims 4 GB of text": b"\x81\xdb\xff\xff\xff\xff",
    "key is not UTF-8": b"\x81\xa1\xff\x01", "value is not UTF-8": b"\x81\xa4type\xa1\xff", "deep": b"\x81\xa4type" + b"\x91" * DEEP + b"\xc0",
    "deep maps": b"\x81\xa3ext" + b"\x81\xa1a" * DEEP + b"\xc0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_message_is_told_from_what_is(name):
    with pytest.raises(Malformed) as caught:
        from_source(MALFORMED[name])
    assert str(caught.value)


def test_maps_of_a_message_are_bounded_before_they_are_read():
    for raw, path in ((b"\x01", "resources"), (b"\xdf\xff\xff\xff\xff", "resources"), (b"\x81\xa7cluster\x01", "resources.cluster"),
                      (b"\x81\xa7cluster\xdf\x00\x01\x86\xa1" + b"\xa1a\x80" * 100_001, "resources.cluster"), (b"\x81\xa7cluster\x82\xa1a\x80\xa1a\x80", "resources.cluster"),
                      (b"\x81\xa7cluster\x81\x01\x80", "resources.cluster"), (b"\x82\xa7cluster\x80\xa7cluster\x80", "resources")):
        with pytest.raises(Refused) as caught:
            resources_of(msgspec.Raw(raw))
        assert caught.value.faults[0].path == path
    for raw in (pack({"cluster": {"a": 1}}), pack({"cluster": [1]}), pack({"cluster": ["a", None]}), pack({"cluster": ["a"] * 100_001})):
        with pytest.raises(Refused) as caught:
            removed_of(msgspec.Raw(raw))
        assert caught.value.faults[0].path == "remove.cluster"


BAD_VALUES = [
    (b"\x82\xa1a\x01\xa1a\x02", "a key of a map is repeated"), (b"\x91\x81\xa1b\x82\xa1a\x01\xa1a\x02", "a key of a map is repeated"),
    (b"\x82\xa1a\xd9\x01x\xa1b\x82\xa1a\x01\xa1a\x01", "a key of a map is repeated"), (b"\x91" * 65 + b"\xc0", "nested deeper than 64 levels"),
    (b"\x81\xa1a" * DEEP + b"\xc0", "nested deeper than 64 levels"), (b"\x81\x01\x02", "a key of a map is not a text"), (b"\x91\xc4\x01a", "binary data"),
    (b"\x81\xa1a\xd4\x05\x00", "binary data"), (b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", "binary data"), (b"\xa1\xff", "not msgpack"),
]


@pytest.mark.parametrize("raw, message", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_values_which_resources_cannot_have(raw, message):
    with pytest.raises(ValueError, match=message):
        Packed(raw).value()


VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.text(max_size=40) | st.floats(allow_nan=False),
                      lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5), max_leaves=30)


@given(VALUES)
def test_values_are_what_was_packed(value):
    assert Packed(pack(value)).value() == value
    assert Packed(loosely(value)).value() == value


def loosely(value):
    """The longest encodings there are."""
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + len(data).to_bytes(4, "big") + data
    if isinstance(value, list):
        return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(loosely, value))
    if isinstance(value, dict):
        return b"\xdf" + len(value).to_bytes(4, "big") + b"".join(loosely(key) + loosely(one) for key, one in value.items())
    return pack(value)


@given(VALUES, st.data())
def test_mutated_bytes_are_a_value_or_an_error(value, data):
    raw = bytearray(pack(value))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for attempt in (lambda: Packed(bytes(raw)).value(), lambda: from_source(bytes(raw)), lambda: from_proxy(bytes(raw))):
        try:
            attempt()
        except ValueError as error:
            assert str(error)


def test_large_resources_are_refused_unread():
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        Packed(b"\xdb\x01\x00\x00\x01" + bytes((1 << 24) + 1)).value()
    with pytest.raises(ValueError, match="more than 1000000 maps and lists"):
        Packed(b"\xdd\x00\x10\x00\x00" + b"\x80" * (1 << 20)).value()


def test_hashes_are_over_the_bytes():
    one, same, other = packed({"a": 1}), packed({"a": 1}), packed({"a": 2})
    assert one == same and one.hash == same.hash and hash(one) == hash(same) and one != other and one.hash != other.hash


def test_features_are_what_is_built():
    found = set(features())
    assert {"delta", "report", "listener", "secret", "route.timeout", "listener.protocol=tcp", "cluster.balance=ewma", "endpoints.endpoints"} <= found
    options = {f"{name}.{key}": one.built for name, section in {**SECTIONS, **RESOURCES}.items() if name != "config" for key, one in section.options.items()}
    assert all((name in found) == built for name, built in options.items()) and "policy" not in found and "listener.protocol=detect" not in found
