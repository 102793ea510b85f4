"""The last acknowledged snapshot on disk: written whole or not at all, and believed only with its checksum.

One file for each node: a line that names the format, 32 bytes of SHA-256, and a msgpack map {node, version, resources, sealed}.
`sealed` holds the secrets (seal.py), or is nil if there are some and no key could be had.
"""

import asyncio
import hashlib
import logging
import os
import re
import stat

from msgspec import DecodeError, Raw, Struct, ValidationError, msgpack

from fastproxy.proxy import seal
from fastproxy.wire.messages import Refused, resources_of

log = logging.getLogger("fastproxy.snapshots")
MAGIC = b"fastproxy snapshot 1\n"
MAX_BYTES = 1 << 30
PAUSE_S = 1.0                   # between two writes, each of which waits for the disk
KEEP_KEY_S = 12 * 3600.0        # the keyring forgets a key that nobody has wanted for three days


class Body(Struct, forbid_unknown_fields=True):
    node: str
    version: str
    resources: Raw
    secrets: int                # how many there are
    sealed: bytes


class Unusable(ValueError):
    """Why a file is not used."""


def file_name(node):
    return re.sub(r"[^A-Za-z0-9._-]", "_", node)[:64] + "-" + hashlib.sha256(node.encode()).hexdigest()[:12]


def path_of(node):
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "fastproxy", file_name(node) + ".snapshot")


def about(node, version):
    return MAGIC + msgpack.encode([node, version])


def save(path, node, version, packed):
    """Raises OSError. `packed`: {kind: {name: Packed}}. -> whether it is complete: without a key, secrets are left out."""
    open_part = raw_of({kind: named for kind, named in packed.items() if kind != "secret"})
    hidden, sealed = packed.get("secret", {}), b""
    if hidden:
        key = seal.key_of(file_name(node), make=True)
        sealed = seal.seal(key, raw_of({"secret": hidden}), about(node, version)) if key else b""
    body = msgpack.encode(Body(node, version, Raw(open_part), len(hidden), sealed))
    write(path, MAGIC + hashlib.sha256(body).digest() + body)
    return not hidden or bool(sealed)


def raw_of(packed):
    return msgpack.encode({kind: {name: Raw(one.raw) for name, one in named.items()} for kind, named in packed.items()})


def write(path, data):
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    fresh = f"{path}.{os.getpid()}"
    try:
        os.unlink(fresh)            # of one with our number that died
    except FileNotFoundError:
        pass
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)                # the name is on the disk, too
    finally:
        os.close(fd)


def load(path, node):
    """-> (version, {kind: {name: Packed}}, complete), or None if there is none. Raises OSError or Unusable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
            raise Unusable("others can write it")
        data = file.read(MAX_BYTES)
    body = data[len(MAGIC) + 32:]
    if not data.startswith(MAGIC):
        raise Unusable("it is none of this version")
    if hashlib.sha256(body).digest() != data[len(MAGIC):len(MAGIC) + 32]:
        raise Unusable("its checksum does not match: it is damaged")
    try:
        body = msgpack.decode(body, type=Body)
        if body.node != node:
            raise Unusable(f"it belongs to the node {body.node}")
        packed = resources_of(body.resources)
        hidden = unsealed(body)
    except (DecodeError, ValidationError, UnicodeDecodeError, Refused) as error:
        raise Unusable(f"it cannot be read: {error}") from None
    if hidden:
        packed["secret"] = hidden
    return body.version, packed, len(hidden) == body.secrets


def unsealed(body):
    """{name: Packed}; empty without a key."""
    key = seal.key_of(file_name(body.node), make=False) if body.sealed else None
    text = seal.unseal(key, body.sealed, about(body.node, body.version)) if key else None
    return resources_of(Raw(text)).get("secret", {}) if text else {}


class Keeper:
    """Writes the newest of what it is given, in a thread, at most one at a time and once in PAUSE_S."""

    def __init__(self, path, node):
        self.path, self.node = path, node
        self.newest = None          # (version, Resources) not written yet
        self.writing = None         # in a thread
        self.wake = asyncio.Event()
        self.said = None            # the last complaint
        self.hides = False          # whether what is on the disk has secrets
        self.task = asyncio.ensure_future(self.run())

    def keep(self, version, resources):
        self.newest = version, resources
        self.wake.set()

    async def run(self):
        while True:
            try:
                await asyncio.wait_for(self.wake.wait(), KEEP_KEY_S)
            except asyncio.TimeoutError:
                if self.hides:
                    await asyncio.to_thread(seal.key_of, file_name(self.node), False)
                continue
            self.wake.clear()
            self.writing = asyncio.ensure_future(asyncio.to_thread(self.write))
            await asyncio.shield(self.writing)
            await asyncio.sleep(PAUSE_S)

    def write(self):
        (version, resources), self.newest = self.newest, None
        packed = resources.packed()
        self.hides = "secret" in packed
        try:
            whole = save(self.path, self.node, version, packed)
            trouble = None if whole else "no key can be had: the last good snapshot is kept without its secrets"
        except OSError as error:
            trouble = f"the last good snapshot cannot be kept in {self.path}: {error.strerror}"
        if trouble and trouble != self.said:
            log.warning("%s", trouble)
        self.said = trouble

    async def close(self):
        """What is not written yet is written now."""
        self.task.cancel()
        await asyncio.gather(self.task, *([self.writing] if self.writing else []), return_exceptions=True)
        if self.newest:
            await asyncio.to_thread(self.write)
