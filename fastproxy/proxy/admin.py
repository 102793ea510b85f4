"""The admin and metrics addresses: a small HTTP/1.1 service in the event loop, apart from the data path.

Whoever reaches the Unix socket (mode 0600) may do all. On TCP the program beside us and a page in a browser can connect too:
there the Host must be an address or localhost (no DNS rebinding), and a changing call needs the header `x-fastproxy-admin: 1`,
which a page cannot send across origins without being asked first. The metrics address is read-only.
"""

import asyncio
import ipaddress
import json
import logging
import re
import socket
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import h11

from fastproxy.proxy import listen, metrics
from fastproxy.version import VERSION

log = logging.getLogger("fastproxy.admin")
CONNECTIONS = 64
HEAD_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024
REQUEST_TIMEOUT_S = 10.0    # from the first byte awaited to the last byte of the body; an idle connection is closed too
RESPONSE_TIMEOUT_S = 10.0   # to take the response
TTL_S = 600.0               # of a log level, without `ttl`
COMPONENTS = ("config", "admin", "process", "snapshots", "discovery")
LEVELS = ("debug", "info", "warning", "error")


class Refused(Exception):
    """Ends a call with a status and a sentence."""

    def __init__(self, status, sentence, **headers):
        super().__init__(status, sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


class Admin:
    """One address: kind "admin" answers all paths, kind "metrics" the harmless ones."""

    def __init__(self, proxy, kind):
        self.proxy, self.kind = proxy, kind
        self.sock = self.listening = None
        self.tasks, self.restore = set(), {}
        self.bind = self.identity = self.address = self.offer = None
        self.paths = {("GET", "/ready"): self.ready, ("GET", "/live"): self.live, ("GET", "/metrics"): self.metrics}
        if kind == "admin":
            self.paths |= {("GET", "/stats"): self.stats, ("GET", "/config"): self.config, ("GET", "/clusters"): self.clusters,
                           ("GET", "/logging"): self.levels,
                           ("POST", "/drain"): self.drain, ("POST", "/logging"): self.logging}

    def open(self, bind, offers=()):
        """Who connects from here on waits for start(). `offers`: what another process hands over (handover.Offer)."""
        self.bind, self.offer = bind, next((offer for offer in offers if offer.fits(self.kind, bind)), None)
        if self.offer:
            self.address, ((self.sock, *_), _) = self.offer.address, listen.adopt(self.offer.fds, 1)
        else:
            (self.sock,), self.address = listen.open_sockets(bind, mode=0o600)
            self.identity = listen.identity(bind)
        return self

    async def start(self):
        if self.offer:
            self.identity, self.offer = self.offer.identity, None
        start = asyncio.start_unix_server if self.sock.family == socket.AF_UNIX else asyncio.start_server
        self.listening = await start(self.on_connection, sock=self.sock, limit=HEAD_BYTES)

    async def close(self):
        listen.remove_ours(self.bind, self.identity)
        (self.listening or self.sock).close()
        for timer, logger in list(self.restore.values()):
            timer.cancel()
            logger.setLevel(logging.NOTSET)
        self.restore.clear()
        tasks = [task for task in self.tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def on_connection(self, reader, writer):
        task = asyncio.current_task()
        if len(self.tasks) >= CONNECTIONS:
            writer.close()
            return
        self.tasks.add(task)
        writer.transport.set_write_buffer_limits(high=0)    # drain() waits for the last byte: what is left at the end is thrown away
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.TimeoutError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def serve(self, reader, writer):
        """Requests of one connection in order."""
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        while True:
            request = None
            try:
                request, body = await asyncio.wait_for(self.receive(conn, reader, writer), REQUEST_TIMEOUT_S)
                if request is None:
                    return
                status, kind, text, headers = self.answer(request, body)
            except Refused as refused:
                status, kind, text, headers = refused.status, "text/plain", refused.sentence + "\n", refused.headers
            except h11.RemoteProtocolError as error:
                if conn.our_state is not h11.IDLE and conn.our_state is not h11.SEND_RESPONSE:
                    return
                status, kind, text, headers = error.error_status_hint, "text/plain", "malformed request\n", {}
            data = text.encode()
            fields = [("content-type", f"{kind}; charset=utf-8"), ("content-length", str(len(data))), ("cache-control", "no-store"),
                      ("x-content-type-options", "nosniff"), *((name.replace("_", "-"), value) for name, value in headers.items())]
            if conn.their_state not in (h11.DONE, h11.MUST_CLOSE):
                fields.append(("connection", "close"))
            out = conn.send(h11.Response(status_code=status, headers=fields, reason=HTTPStatus(status).phrase))
            if not (request and request.method == b"HEAD"):
                out += conn.send(h11.Data(data=data))
            out += conn.send(h11.EndOfMessage())
            writer.write(out)
            await asyncio.wait_for(writer.drain(), RESPONSE_TIMEOUT_S)
            if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                return
            conn.start_next_cycle()

    async def receive(self, conn, reader, writer):
        """The next request with its body, or (None, b"") at the end of the connection."""
        request, body = None, b""
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                if conn.they_are_waiting_for_100_continue:
                    writer.write(conn.send(h11.InformationalResponse(status_code=100, headers=[])))
                conn.receive_data(await reader.read(HEAD_BYTES))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_BYTES:
                    raise Refused(413, "request body too large")
            elif isinstance(event, h11.EndOfMessage):
                return request, body
            else:  # closed, or paused behind a request that asked to close
                return None, b""

    def answer(self, request, body):
        """(status, content type, text, further headers)."""
        method, target = request.method.decode(), urlsplit(request.target.decode())
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        log.debug("%s %s", method, target.path)
        call = self.paths.get(("GET" if method == "HEAD" else method, target.path))
        if not call:
            allowed = [m for m, path in self.paths if path == target.path]
            if allowed:
                raise Refused(405, f"{target.path} takes {' or '.join(allowed)}", allow=", ".join(allowed + ["HEAD"] * ("GET" in allowed)))
            raise Refused(404, f"no such path; there are {', '.join(sorted(path for _, path in self.paths))}")
        if self.kind == "admin" and not listen.is_unix(self.bind):
            if not is_address(headers.get("host", "")):
                raise Refused(403, "Host must be an IP address or localhost")
            if method == "POST" and headers.get("x-fastproxy-admin") != "1":
                raise Refused(403, "a changing call needs the header x-fastproxy-admin: 1")
        if not self.proxy.running and call not in (self.ready, self.live):
            raise Refused(503, "the proxy has ended")  # asked in the moment between its end and that of this service
        query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        return call(query, body)

    def ready(self, query, body):
        ready = self.proxy.running and not self.proxy.draining
        return 200 if ready else 503, "text/plain", "ready\n" if ready else "draining\n", {}

    def live(self, query, body):
        return 200, "text/plain", "live\n", {}

    def metrics(self, query, body):
        return 200, "text/plain; version=0.0.4", metrics.prometheus(self.proxy), {}

    def stats(self, query, body):
        """GET /stats, or /stats?histograms=1 for the buckets behind the quantiles."""
        return as_json(200, metrics.report(self.proxy, query.get("histograms") == "1"))

    def clusters(self, query, body):
        return as_json(200, metrics.clusters_of(metrics.collect(self.proxy), self.proxy))

    def config(self, query, body):
        from fastproxy.model.written import redact, written  # only who asks for it pays for it
        return as_json(200, {"version": VERSION, "config": redact(written(self.proxy.model))})

    def drain(self, query, body):
        log.info("drain asked for")
        self.proxy.begin_drain()
        return as_json(202, {"draining": True, **self.proxy.alive().core.active()})

    def levels(self, query, body):
        """GET /logging: who is at which level, and for how much longer if that was asked for."""
        if query:
            raise Refused(405, "a level is set by POST", allow="POST")
        now = asyncio.get_running_loop().time()
        return as_json(200, {name: {"level": logging.getLevelName(logging.getLogger(f"fastproxy.{name}").getEffectiveLevel()).lower(),
                                    "seconds_left": round(max(0.0, self.restore[name][0].when() - now), 3) if name in self.restore else None}
                             for name in COMPONENTS})

    def logging(self, query, body):
        """POST /logging?component=config&level=debug&ttl=5m"""
        component, level = query.get("component", "all"), query.get("level", "")
        if component not in (*COMPONENTS, "all") or level not in LEVELS:
            raise Refused(400, f"component: all, {', '.join(COMPONENTS)}; level: {', '.join(LEVELS)}; ttl: 10s, 5m, 1h")
        ttl_s = duration_s(query.get("ttl", f"{TTL_S:g}s"))
        for name in COMPONENTS if component == "all" else [component]:
            logger = logging.getLogger(f"fastproxy.{name}")
            if name in self.restore:
                self.restore.pop(name)[0].cancel()
            logger.setLevel(level.upper())
            self.restore[name] = asyncio.get_running_loop().call_later(ttl_s, self.revert, name), logger
        return as_json(200, {"component": component, "level": level, "ttl_seconds": ttl_s})

    def revert(self, name):
        self.restore.pop(name)[1].setLevel(logging.NOTSET)


def as_json(status, value):
    return status, "application/json", json.dumps(value, indent=1) + "\n", {}


def duration_s(text):
    found = re.fullmatch(r"(\d{1,6})(s|m|h)", text)
    if not found:
        raise Refused(400, "ttl: 10s, 5m, 1h")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def is_address(host):
    """Whether a Host is an IP address or localhost, with or without a port: never a name that somebody's DNS decides."""
    name = re.sub(r":\d+$", "", host)
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
