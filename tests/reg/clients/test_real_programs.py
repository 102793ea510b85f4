"""curl, aiohttp and nginx meet the proxy as they come."""

import asyncio
import os
import shutil
import subprocess

import pytest

from harness import serve, wait_for
from harness.client import dial

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
NGINX = """
daemon off; master_process off; pid %(dir)s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %(dir)s/b; proxy_temp_path %(dir)s/p; fastcgi_temp_path %(dir)s/f; uwsgi_temp_path %(dir)s/u; scgi_temp_path %(dir)s/s;
       server { listen unix:%(dir)s/n.sock; location / { root %(dir)s/files; } location /hello { return 200 "hello from nginx"; } } }
"""


def answers(address):
    try:
        dial(address).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_uploads_with_expect(proxy, origin, tmp_path):
    app = origin(serve(lambda message, conn: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message.body) + message.body))
    (tmp_path / "up").write_bytes(b"z" * 3_000_000)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"], ["-H", "Expect:"]):
        out = subprocess.run(["curl", "-sS", "--max-time", "10", *extra, "--data-binary", f"@{tmp_path}/up", f"http://{(one := proxy(CONFIG, app=app.address)).addresses['web']}/"], capture_output=True, check=True)
        assert len(out.stdout) == 3_000_000 or "chunked" in str(extra), (extra, len(out.stdout), one.errors)


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_as_an_origin(proxy, tmp_path):
    (tmp_path / "files").mkdir(mode=0o755)
    (tmp_path / "files/big").write_bytes(b"n" * 5_000_000)
    (tmp_path / "nginx.conf").write_text(NGINX % {"dir": tmp_path} if os.getuid() else "user root;" + NGINX % {"dir": tmp_path})
    nginx = subprocess.Popen(["nginx", "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(f"unix:{tmp_path}/n.sock"), what="nginx listens")
        with proxy(CONFIG, app=f"unix:{tmp_path}/n.sock").connect() as client:
            assert client.get("/hello").body == b"hello from nginx"
            assert len(client.get("/big").body) == 5_000_000
            assert client.get("/big", "Range: bytes=0-9").status == 206
            assert client.get("/big", method="HEAD").get(b"content-length") == b"5000000"
            assert client.get("/none").status == 404
    finally:
        nginx.terminate()
        nginx.wait()


def test_aiohttp_client(proxy, origin):
    aiohttp = pytest.importorskip("aiohttp")
    one = proxy(CONFIG, app=origin().address)

    async def run():
        async with aiohttp.ClientSession(f"http://{one.addresses['web']}") as session:
            async def go(i):
                async with session.post("/", data=b"x" * i) as reply:
                    return reply.status, await reply.read()
            return await asyncio.gather(*(go(i * 100) for i in range(100)))

    assert set(asyncio.run(run())) == {(200, b"ok\n")}
