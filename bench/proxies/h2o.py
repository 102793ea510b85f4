"""h2o: one thread, keep-alive to the origin."""
import os
import shutil

from . import version_of

NAME = "h2o"
PORTS = {"http", "http_unix", "routes"}
MISSING = "Debian package h2o"


def find():
    return shutil.which("h2o", path=os.environ.get("PATH", "") + ":/usr/sbin")


def version(program):
    return version_of([program, "--version"])


def command(program, setup):
    def url(port):
        to = setup.origin[port]
        return f"http://[{to}]/" if to.startswith("unix:") else f"http://{to}/"

    text = f"""
{'user: root' if setup.root else ''}
num-threads: {setup.workers}
max-connections: {setup.conns}
http1-request-timeout: 3600
proxy.timeout.keepalive: 3600000
error-log: {setup.dir}/h2o.log
pid-file: {setup.dir}/h2o.pid
hosts:
"""
    for port in ["http"] if setup.routes else [p for p in setup.ports if p.startswith("http")]:
        text += f"  \"{port}.example\":\n    listen: {{host: 127.0.0.1, port: {setup.ports[port]}}}\n    paths:\n"
        if setup.routes:
            text += "".join(f"      \"/{r}/\": {{proxy.reverse.url: \"{url('http')}{r}/\"}}\n" for r in setup.route_names())
        else:
            text += f"      \"/\": {{proxy.reverse.url: \"{url(port)}\"}}\n"
    return [program, "-c", setup.write("h2o.conf", text)]
