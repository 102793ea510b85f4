"""`make run`: three small origins, and the proxy in front of them with a weighted split and a TCP listener, until Ctrl-C."""

import asyncio
import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket
import sys
import tempfile

CONFIG = """\
admin: unix:{folder}/admin.sock
drain_timeout: 5s
listeners:
  - name: web
    bind: 127.0.0.1:{web}
    protocol: http
    routes:
      - {{name: canary, match: {{path_prefix: /v2}}, cluster: reviews-v2}}
      - {{name: reviews, split: [{{cluster: reviews-v1, weight: 90}}, {{cluster: reviews-v2, weight: 10}}]}}
  - name: raw
    bind: 127.0.0.1:{raw}
    protocol: tcp
    cluster: raw
clusters:
  - {{name: reviews-v1, endpoints: ["{reviews-v1}"]}}
  - {{name: reviews-v2, endpoints: ["{reviews-v2}"]}}
  - {{name: raw, endpoints: ["{raw-origin}"]}}
"""
PR_SET_PDEATHSIG = 1


async def answer(name, reader, writer):
    """An origin: tells its name and the head that reached it, so that one sees what a proxy made of it."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
            await reader.readexactly(int(length[1]) if length else 0)
            body = f"{name} got:\n".encode() + b"".join(b"  " + line + b"\n" for line in head.split(b"\r\n") if line)
            last = re.search(rb"\r\ntransfer-encoding:", head, re.I)  # that body is not read here, so nothing can follow it
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n%s\r\n" % (len(body), b"connection: close\r\n" if last else b""))
            writer.write(b"" if head.startswith(b"HEAD ") else body)
            await writer.drain()
            if last:
                break
    writer.close()


def free_port(wanted):
    """The wanted port, or 0 if somebody has it: the proxy then says which one it got."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


async def live(folder):
    """The exit code."""
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end.set)
    places = {"web": free_port(8080), "raw": free_port(8081)}
    for name in ("reviews-v1", "reviews-v2", "raw-origin"):
        origin = await asyncio.start_server(lambda reader, writer, name=name: answer(name, reader, writer), "127.0.0.1", 0)
        places[name] = "127.0.0.1:%d" % origin.sockets[0].getsockname()[1]
        print("origin", name, places[name])
    file = folder / "proxy.yaml"
    file.write_text(CONFIG.format(folder=folder, **places))
    # In a session of its own Ctrl-C reaches us alone; we tell the proxy, and it ends with us however we end.
    proxy = await asyncio.create_subprocess_exec(sys.executable, "-m", "fastproxy", "run", "-c", str(file), stdout=asyncio.subprocess.PIPE,
                                                 start_new_session=True,
                                                 preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
    gone = asyncio.ensure_future(proxy.wait())
    over = asyncio.ensure_future(end.wait())
    ready = asyncio.ensure_future(listening(proxy.stdout))
    try:
        await asyncio.wait({gone, over, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and ready.result():
            explain(file, **ready.result())
            await asyncio.wait({gone, over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not gone.done():
            proxy.terminate()
    return await gone


async def listening(lines):
    """{listener: address} once the proxy is ready; {} if it ends before."""
    addresses = {}
    async for line in lines:
        print(line.decode(), end="", flush=True)
        word, *rest = line.decode().split()
        if word == "ready":
            return addresses
        addresses[rest[0]] = rest[1]
    return {}


def explain(file, web, raw):
    command = pathlib.Path(sys.executable).with_name("fastproxy")
    command = os.path.relpath(command) if command.exists() else f"{sys.executable} -m fastproxy"
    print(f"""
Try, in another terminal:
  curl http://{web}/                 # nine of ten answers come from reviews-v1, one from reviews-v2
  curl -s 'http://{web}/[1-20]' | grep got
  curl http://{web}/v2               # always reviews-v2
  curl http://{raw}/                 # the TCP listener: the head arrives as curl sent it
  {command} stat --admin unix:{file.parent}/admin.sock
Change {file}, and the proxy takes it without a restart.
Ctrl-C ends it.""", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="fastproxy-demo-") as made:
        sys.exit(asyncio.run(live(pathlib.Path(made))))
