"""Frames: a length in 4 bytes, big-endian, and so many bytes of payload. No I/O here; bytes come in any pieces."""

MAX_BYTES = 64 * 1024 * 1024    # of a payload; a configuration file has the same bound


class FrameError(ValueError):
    """The bytes are no frames of ours; nothing after them can be told."""


def frame(payload):
    if len(payload) > MAX_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes is longer than {MAX_BYTES >> 20} MiB")
    return len(payload).to_bytes(4, "big") + payload


class Decoder:
    """`feed(data)`, then `take()` until it gives None."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data

    def take(self):
        """The next whole payload, or None. Raises FrameError, for ever from then on."""
        buffer = self.buffer
        if len(buffer) < 4:
            return None
        size = int.from_bytes(buffer[:4], "big")
        if not 0 < size <= MAX_BYTES:
            raise FrameError(f"a frame of {size} bytes; it has 1 byte to {MAX_BYTES >> 20} MiB")
        if len(buffer) < 4 + size:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[4:4 + size])
        del buffer[:4 + size]
        return payload

    @property
    def partial(self):
        """Whether a frame has begun and not ended."""
        return bool(self.buffer)
