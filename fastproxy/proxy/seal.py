"""Seals the secrets of the snapshot on disk, with a key that outlives the process and not the machine.

The key is in the kernel's persistent keyring of our user or, where there is none (containers often forbid the calls), in a
file on a tmpfs. If neither can be had there is no key, and nothing that needs one is written.
"""

import ctypes
import errno
import logging
import os
import platform
import secrets
import stat

log = logging.getLogger("fastproxy.snapshots")
KEY_BYTES = 32
NONCE_BYTES = 12
CALLS = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}     # add_key, keyctl
GET_PERSISTENT, SEARCH, READ = 22, 10, 11                                       # of keyctl(2)
PROCESS_KEYRING = -2
MEMORY = ("tmpfs", "ramfs")


def key_of(node, make):
    """The key for a proxy's name, or None. `make`: one is made if there is none yet. Being asked for keeps it alive: the keyring
    forgets what nobody has wanted for three days (proc_keys(5), persistent_keyring_expiry)."""
    return in_keyring(node, make) or in_memory(node, make)


def in_keyring(node, make):
    if platform.machine() not in CALLS:
        return None
    add_key, keyctl = CALLS[platform.machine()]
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    word = ctypes.c_long
    ring = syscall(word(keyctl), word(GET_PERSISTENT), word(-1), word(PROCESS_KEYRING))
    if ring < 0:
        return None
    name = f"fastproxy:{node}".encode()
    key = syscall(word(keyctl), word(SEARCH), word(ring), b"user", name, word(0))
    if key < 0 and make and ctypes.get_errno() == errno.ENOKEY:
        fresh = secrets.token_bytes(KEY_BYTES)
        key = syscall(word(add_key), b"user", name, fresh, word(KEY_BYTES), word(ring))
    if key < 0:
        return None
    into = ctypes.create_string_buffer(KEY_BYTES)
    return into.raw if syscall(word(keyctl), word(READ), word(key), into, word(KEY_BYTES)) == KEY_BYTES else None


def in_memory(node, make):
    for place in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}", "/run", "/dev/shm"):
        if place and on_memory(place):
            try:
                return in_file(os.path.join(place, f"fastproxy-{os.getuid()}"), node, make)
            except OSError:
                pass
    return None


def on_memory(place):
    """Whether the file system there has no disk below it."""
    try:
        device = os.stat(place).st_dev
        with open("/proc/self/mountinfo", errors="replace") as mounts:
            for line in mounts:
                words = line.split()
                if words[2] == f"{os.major(device)}:{os.minor(device)}":
                    return words[words.index("-") + 1] in MEMORY
    except OSError:
        pass
    return False


def in_file(folder, node, make):
    """Raises OSError. Anybody can make files in /dev/shm: what is not ours alone is not used."""
    if make:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
    path = os.path.join(folder, node)
    ours(os.lstat(folder), stat.S_ISDIR)
    if make and not os.path.lexists(path):
        fresh = f"{path}.{secrets.token_hex(4)}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(KEY_BYTES))
            os.link(fresh, path)    # whole or not at all; of two processes, the first
        except FileExistsError:
            pass
        finally:
            os.close(fd)
            os.unlink(fresh)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ours(os.fstat(fd), stat.S_ISREG)
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    return key if len(key) == KEY_BYTES else None


def ours(found, kind):
    if not kind(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "not ours alone")


def seal(key, text, about):
    """AES-256-GCM; `about` is authenticated with it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only who has secrets pays for it
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, about)


def unseal(key, sealed, about):
    """The text, or None if it was not sealed so."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        return None
