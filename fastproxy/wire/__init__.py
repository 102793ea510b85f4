"""The snapshot protocol, version 1: frames (frames.py), messages (messages.py), and a source for asyncio programs (source.py).

docs/snapshot_protocol.md is its contract. Nothing here knows the proxy: its side of the connection is proxy/snapshots.py.
"""
