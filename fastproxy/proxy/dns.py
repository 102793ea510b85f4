"""DNS through aiodns (c-ares): one question, one result. Imported by whoever has a name to look up, and only then."""

import asyncio
import signal
import socket
import weakref

from aiodns import DNSResolver
from aiodns.error import ARES_ENODATA, ARES_ENOTFOUND, ARES_ESERVFAIL, ARES_ETIMEOUT, DNSError
from pycares import QUERY_TYPE_A, QUERY_TYPE_AAAA, AresError, DNSResult

QUESTION_S = 5.0                # until a question is given up; c-ares asks again within that
TRY_S, TRIES = 0.5, 4           # the first try; each next waits twice as long
CHANNEL_S = 0.5                 # less than there is between two questions for one name
RESULTS = {ARES_ENODATA: "empty", ARES_ENOTFOUND: "nxdomain", ARES_ESERVFAIL: "servfail", ARES_ETIMEOUT: "timeout"}
FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}
RECORDS = {"A": QUERY_TYPE_A, "AAAA": QUERY_TYPE_AAAA}


class Resolver:
    """`servers`: a tuple of ip:port, or None for what the system has."""

    def __init__(self, servers):
        self.servers, self.channel, self.born = servers, None, 0.0
        self.channels = weakref.WeakSet()       # with those left that still wait for an answer

    async def ask(self, name, grace_s):
        """-> {family: (result, addresses as text in order, seconds that they hold)}; result: ok, empty, or what went wrong. When one
        family has its answer, the other has `grace_s` left."""
        try:
            channel = self.present()
            # Only what the system has comes with search domains and a file of hosts.
            asking = {family: channel.query_dns(name, family) if self.servers else channel.getaddrinfo(name, family=number, type=socket.SOCK_STREAM)
                      for family, number in FAMILIES.items()}
        except AresError:           # no descriptors, or no memory, for a channel
            return {family: ("error", (), 0) for family in FAMILIES}
        for one in asking.values():
            one.add_done_callback(lambda one: one.cancelled() or one.exception())       # nobody may wait for it any more
        try:
            answered, _ = await asyncio.wait(asking.values(), timeout=QUESTION_S, return_when=asyncio.FIRST_COMPLETED)
            if answered:
                await asyncio.wait(asking.values(), timeout=grace_s)
            return {family: result_of(one, family) for family, one in asking.items()}
        finally:
            for one in asking.values():
                one.cancel()

    def present(self):
        """c-ares caches, even what RFC 2308 5 says must not be: that there are no addresses, without an SOA, for an hour. So no
        channel is asked twice for a name. One that is left closes when its questions are answered and nothing refers to it."""
        now = asyncio.get_running_loop().time()
        if self.channel is None or now - self.born >= CHANNEL_S:
            taken = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())    # its threads get the mask: signals are not theirs
            try:
                self.channel, self.born = DNSResolver(self.servers, timeout=TRY_S, tries=TRIES), now
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, taken)
            self.channels.add(self.channel)
        return self.channel

    async def close(self):
        """No answer comes after this: the loop may be closed by then."""
        self.channel = None
        for channel in list(self.channels):
            await channel.close()


def result_of(answer, family):
    if not answer.done():
        return "timeout", (), 0
    try:
        found = answer.result()
    except DNSError as error:
        return RESULTS.get(error.args[0], "error"), (), 0
    if isinstance(found, DNSResult):
        addresses = {one.data.addr for one in found.answer if one.type == RECORDS[family]}
        ttls = [one.ttl for one in found.answer]        # also of each CNAME on the way
    else:
        addresses = {node.addr[0].decode() for node in found.nodes}
        ttls = [node.ttl for node in found.nodes] + [one.ttl for one in found.cnames]
    return ("ok", tuple(sorted(addresses)), min(ttls)) if addresses else ("empty", (), 0)
