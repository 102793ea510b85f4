"""Scripted origins, raw clients and the proxy process: everything a behaviour test needs, and nothing of the product."""

from harness.client import RawClient
from harness.dns import DnsServer
from harness.http1 import Message, ProtocolFault, field, fields_of, head_of
from harness.origin import Origin, answering, serve
from harness.process import Proxy
from harness.source import SnapshotSource
from harness.wait import pace, wait_for

__all__ = ["DnsServer", "Message", "Origin", "ProtocolFault", "Proxy", "RawClient", "SnapshotSource", "answering", "field", "fields_of", "head_of", "pace", "serve", "wait_for"]
