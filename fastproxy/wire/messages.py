"""Messages: what stands in a frame, as records, and strict decoding of what a stranger sent.

msgspec decodes: it is a dependency already, it checks shapes while it decodes and before it allocates, and `Raw` leaves a
resource packed until it is known to be new. What it lets pass is looked after here: repeated keys, depth, foreign types.
"""

import re
from hashlib import blake2b
from typing import Annotated, Any, Dict, List, Optional, Union

from msgspec import DecodeError, Meta, Raw, Struct, ValidationError, msgpack

from fastproxy.model.errors import Error
from fastproxy.model.resources import KINDS, MAX_KIND
from fastproxy.model.walk import rendered
from fastproxy.wire.frames import FrameError, frame

PROTOCOL = 1
MAX_RESOURCE_BYTES = 16 * 1024 * 1024
MAX_CONTAINERS = 1_000_000      # maps and lists in one resource: small on the wire, large in memory
MAX_DEPTH = 64                  # as in a file
CONTAINER_BYTES = bytes([*range(0x80, 0xa0), *range(0xdc, 0xe0)])   # first bytes of maps and lists
SCALARS = {str, int, bool, float, type(None)}

ABSENT = Raw()                  # of a field that is packed
Version = Annotated[str, Meta(min_length=1, max_length=256)]
Seq = Optional[Annotated[int, Meta(ge=0, le=2**63 - 1)]]


class Message(Struct, tag_field="type", tag=str.lower, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """`seq` of a source's message is repeated in the answer; `ext` is whatever two programs agree upon, and is not looked at."""

    seq: Seq = None
    ext: Raw = ABSENT

    def __repr__(self):
        """Without what is absent."""
        given = [f"{name}={value!r}" for name in self.__struct_fields__ if (value := getattr(self, name)) is not ABSENT and (name != "seq" or value is not None)]
        return f"{type(self).__name__}({', '.join(given)})"


class Fault(Struct, forbid_unknown_fields=True, kw_only=True):
    path: str
    code: str
    message: str


# ---- from the source -----------------------------------------------------------------------------------------------------

class Snapshot(Message, kw_only=True):
    version: Version
    resources: Raw


class Delta(Message, kw_only=True):
    base: Version
    version: Version
    set: Raw = ABSENT
    remove: Raw = ABSENT


class Ask(Message, tag="report"):
    """A source asks for a report by an empty one."""


# ---- from the proxy ------------------------------------------------------------------------------------------------------

class Hello(Message, kw_only=True):
    protocol: int
    node: str
    software: str
    features: List[str]
    have: Optional[Version]


class Ack(Message, kw_only=True):
    version: str


class Nack(Message, kw_only=True):
    version: Optional[str]      # nil: of a message that has none, or that could not be read
    errors: List[Fault]


class Resync(Message, kw_only=True):
    version: Optional[str] = None   # of the delta it answers


class Report(Message, kw_only=True):
    version: Optional[str]
    report: Dict[str, Any]


FROM_SOURCE = msgpack.Decoder(Union[Snapshot, Delta, Ask])
FROM_PROXY = msgpack.Decoder(Union[Hello, Ack, Nack, Resync, Report])
RAW_MAP = msgpack.Decoder(Dict[str, Raw])
RAW_LIST = msgpack.Decoder(List[Raw])
NAMES = msgpack.Decoder(List[str])
ANY = msgpack.Decoder()
ENCODER = msgpack.Encoder()
NIL = b"\xc0"


class Malformed(FrameError):
    """A frame that holds no message: the connection is of no more use."""


class Refused(ValueError):
    """A message that can be answered, with a nack. `version` and `seq` are its own, as far as they could be read."""

    def __init__(self, faults, version=None, seq=None):
        super().__init__(faults)
        self.faults, self.version, self.seq = faults, version, seq


def encode(message):
    """-> a frame."""
    return frame(ENCODER.encode(message))


def from_source(payload):
    """-> Snapshot, Delta or Ask. Raises Refused or Malformed."""
    parts = raw_map(payload, "the message", 16)
    try:
        return FROM_SOURCE.decode(payload)
    except ValidationError as error:
        raise Refused([fault_of(error)], scalar(parts.get("version"), str), scalar(parts.get("seq"), int)) from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a message: {error}") from None


def from_proxy(payload):
    """-> Hello, Ack, Nack, Resync or Report. Raises Malformed."""
    try:
        return FROM_PROXY.decode(payload)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a message: {error}") from None


def fault_of(error):
    """msgspec's message as a fault of ours; it ends in the place: "... - at `$.a.b[0]`"."""
    text, _, place = str(error).partition(" - at `")
    path = place.rstrip("`").lstrip("$").lstrip(".")
    code = "type"
    if found := re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", text, re.S):
        path, code = (path + "." if path else "") + found[2], "unknown_key" if found[1].startswith("contains") else "missing"
        text = f"unknown field `{found[2][:64]}`; what is yours goes under `ext`" if code == "unknown_key" else f"the field `{found[2]}` is missing"
    return one_line(path[:256], code, text)


def one_line(path, code, message):
    """A Fault: what is quoted in it must not move the cursor of who prints it."""
    one = Error("", 0, 0, path, code, message)
    return Fault(path=one.path, code=code, message=one.message)


def faults_of(found):
    """Faults of the model's checkers, as they go on the wire."""
    return [one_line(rendered(path), code, message) for path, _, code, message in found]


def scalar(raw, kind):
    """A field of a refused message, if it is what it should be."""
    value = ANY.decode(raw) if raw is not None and not is_container(raw) else None
    return value if type(value) is kind and (kind is int or len(value) <= 256) else None


# ---- resources -----------------------------------------------------------------------------------------------------------

class Packed:
    """One resource as it came. Equal to another if the bytes are; `hash` is over them."""

    __slots__ = ("raw", "_hash")

    def __init__(self, raw):
        self.raw, self._hash = bytes(raw), None

    def __eq__(self, other):
        return self.raw == other.raw

    def __hash__(self):
        return hash(self.hash)

    @property
    def hash(self):
        if self._hash is None:
            self._hash = blake2b(self.raw, digest_size=16).digest()
        return self._hash

    def value(self):
        """Raises ValueError with a sentence."""
        raw = self.raw
        if len(raw) > MAX_RESOURCE_BYTES:
            raise ValueError(f"larger than {MAX_RESOURCE_BYTES >> 20} MiB")
        # An upper bound, since text has such bytes too; memory for them is taken only below it.
        if len(raw) > MAX_CONTAINERS and len(raw) - len(raw.translate(None, CONTAINER_BYTES)) > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and lists")
        try:
            value = ANY.decode(raw)
        except (DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not msgpack: {error}") from None
        except RecursionError:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
        plain_only(value)
        # Packed again it would be shorter if a key was repeated. It is also longer, or shorter, if the source does not pack
        # as tightly as can be; then the keys are counted.
        if len(ENCODER.encode(value)) != len(raw):
            no_repeated_key(raw)
        return value


def plain_only(value):
    """Raises ValueError unless all of it is nil, booleans, numbers, text, lists, and maps by text; and not too deep."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        below = []
        for one in level:
            if type(one) is dict:
                for key, inner in one.items():
                    if type(key) is not str:
                        raise ValueError("a key of a map is not a text")
                    if type(inner) not in SCALARS:
                        below.append(inner)
            elif type(one) is list:
                below += [inner for inner in one if type(inner) not in SCALARS]
            elif type(one) not in SCALARS:
                raise ValueError("binary data and extension types have no meaning here; write a text")
        level = below


def no_repeated_key(raw):
    """Level by level; the depth is known to be bounded."""
    kind = is_container(raw)
    if kind:
        for one in raw_map(raw, "a map", None).values() if kind == "map" else RAW_LIST.decode(raw):
            no_repeated_key(one)


def is_container(raw):
    """"map", "list" or None, by the first byte."""
    first = memoryview(raw)[0]
    if 0x80 <= first <= 0x8f or first in (0xde, 0xdf):
        return "map"
    return "list" if 0x90 <= first <= 0x9f or first in (0xdc, 0xdd) else None


def count_of(raw):
    """How many entries a map or list says it has."""
    view = memoryview(raw)
    first = view[0]
    return first & 15 if first < 0xa0 else int.from_bytes(view[1:3 if first in (0xdc, 0xde) else 5], "big")


def raw_map(raw, what, longest):
    """A map without looking into its values; its length is checked before anything is allocated. Raises Malformed."""
    if is_container(raw) != "map":
        raise Malformed(f"{what} is not a map")
    count = count_of(raw)
    if longest is not None and count > longest:
        raise Malformed(f"{what} has more than {longest} keys")
    try:
        out = RAW_MAP.decode(raw)
    except ValidationError:
        raise Malformed(f"a key of {what} is not a text") from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not msgpack: {error}") from None
    except RecursionError:
        raise Malformed("nested too deep") from None
    if len(out) != count:
        raise Malformed(f"a key of {what} is repeated")
    return out


def resources_of(raw):
    """`resources` of a snapshot, `set` of a delta -> {kind: {name: Packed}}. Raises Refused."""
    return by_kind(raw, "resources", lambda named, what: {name: Packed(one) for name, one in raw_map(named, what, MAX_KIND).items()})


def removed_of(raw):
    """`remove` of a delta -> {kind: [name]}. Raises Refused."""
    return by_kind(raw, "remove", names_of)


def names_of(raw, what):
    if is_container(raw) != "list" or count_of(raw) > MAX_KIND:
        raise Malformed(f"{what} is not a list, of at most {MAX_KIND} names")
    try:
        return NAMES.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed(f"{what} is not a list of names") from None


def by_kind(raw, field, read):
    if raw is ABSENT or bytes(raw) == NIL:
        return {}
    out, faults = {}, []
    try:
        kinds = raw_map(raw, f"`{field}`", 64)
    except Malformed as error:
        raise Refused([one_line(field, "type", str(error))]) from None
    for kind, found in kinds.items():
        try:
            out[kind] = read(found, f"`{kind}`") if kind in KINDS else {}
        except Malformed as error:
            faults.append(one_line(f"{field}.{kind}", "type", str(error)))
    if faults:
        raise Refused(faults)
    return out


def features():
    """What this version understands, for the hello: read off the table of options, so that it is what exists.

    `delta`; a kind of resource, `listener`; an option, `route.timeout`; a value, `cluster.balance=ewma`."""
    from fastproxy.tables.options import BALANCERS, RESOURCES, SECTIONS
    out = ["delta", "report", *(kind for kind in KINDS if kind != "policy"), *(f"cluster.balance={one}" for one in BALANCERS)]
    for name, section in {**SECTIONS, **RESOURCES}.items():
        if name == "config":
            continue
        for key, option in section.options.items():
            if option.built:
                out.append(f"{name}.{key}")
                out += [f"{name}.{key}={one}" for one in option.type[1]] if option.type[0] == "enum" else []
    return sorted(out)
