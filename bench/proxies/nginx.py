"""nginx: one worker, upstream keep-alive, large enough buffers that a body never waits for a second trip."""
import os
import shutil
from pathlib import Path

from . import version_of

NAME = "nginx"
PORTS = {"http", "http_unix", "tcp", "bulk", "routes"}
MISSING = "Debian packages nginx and libnginx-mod-stream"
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def find():
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found and not STREAM.exists() and "--with-stream " not in _built_with(found):
        PORTS.difference_update({"tcp", "bulk"})
    return found


def _built_with(program):
    return version_of([program, "-V"], r"(?s)configure arguments:(.*)") + " "


def version(program):
    return version_of([program, "-v"])


def command(program, setup):
    def http_listener(port):
        to = setup.origin[port]
        return (f"upstream {port} {{ server {to}; keepalive 128; keepalive_requests 1000000000; keepalive_time 24h; }}\n"
                f"server {{ listen {setup.address(port)} backlog=4096; location / {{ proxy_pass http://{port}; }} }}\n")

    if setup.routes:
        web = "".join(f"upstream {r} {{ server {setup.origin['http']}; keepalive 128; keepalive_requests 1000000000; }}\n"
                      for r in setup.route_names())
        web += f"server {{ listen {setup.address('http')} backlog=4096;\n"
        web += "".join(f"location ^~ /{r}/ {{ proxy_pass http://{r}; }}\n" for r in setup.route_names()) + "}\n"
    else:
        web = "".join(http_listener(port) for port in setup.ports if port.startswith("http"))
    stream = "".join(
        f"server {{ listen {setup.address(port)} backlog=4096; proxy_pass {setup.origin[port]}; "
        f"proxy_buffer_size {'256k' if port == 'bulk' else '16k'}; }}\n"
        for port in setup.ports if port in ("tcp", "bulk"))
    text = f"""
{f'load_module {STREAM};' if stream and STREAM.exists() else ''}
{'user root;' if setup.root else ''}
daemon off;
{'master_process off;' if setup.single else ''}
worker_processes {setup.workers};
pid {setup.dir}/nginx.pid;
error_log {setup.dir}/nginx.log crit;
events {{ worker_connections {setup.conns * 2 if setup.conns < 9000 else setup.conns + 2000}; multi_accept on; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {setup.dir}/body;
    proxy_temp_path {setup.dir}/proxy;
    fastcgi_temp_path {setup.dir}/fastcgi;
    uwsgi_temp_path {setup.dir}/uwsgi;
    scgi_temp_path {setup.dir}/scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffer_size 32k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    proxy_max_temp_file_size 0;
    variables_hash_max_size 4096;
{web}
}}
{f'stream {{ {stream} }}' if stream else ''}
"""
    return [program, "-p", str(setup.dir), "-c", setup.write("nginx.conf", text)]
