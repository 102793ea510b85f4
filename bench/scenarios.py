"""The scenarios, one row each: what the load generator does, through which port, and what is counted."""
from dataclasses import dataclass, field

ROUTES = 1000
# The load goes to 16 of the routes, spread over the table, so that the figure is that of the look-up and not that of
# 1,000 pools with a cold conn each.
ROUTE_PATHS = ",".join(f"/r{i:04d}/128" for i in sorted({round(k * (ROUTES - 1) / 15) for k in range(16)}))


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    kind: str                   # cost | bulk | latency | idle_conns | idle_process
    port: str                   # http | http_unix | tcp | bulk: which listener of the proxy
    load: dict = field(default_factory=dict)    # arguments of bench/load.c; "mode" is http, rr, bulk or idle
    setup: str = "main"         # main | routes | free (two cores, one worker) | workers2: how the proxy is started
    group: str = "main"         # main | routes | workers: what is measured in turn, so that the ratios mean something
    quick: bool = True
    only: tuple = ()            # proxies that it is for; () = all
    instructions: dict = None   # what to change when instructions are counted; None = not counted
    per: str = "request"


def http(**more):
    return {"mode": "http", "conns": 64, "path": "/128", "expect": 128, **more}


ONE = {"conns": 1}
OWN = ("fastproxy",)

SCENARIOS = [
    Scenario("http", "HTTP keep-alive 128 B, 64 connections", "cost", "http", http(), instructions=ONE),
    Scenario("http_unix", "the same to a Unix-socket upstream", "cost", "http_unix", http(), instructions=ONE),
    Scenario("http_16k", "HTTP 16 KiB bodies", "cost", "http", http(path="/16384", expect=16384), instructions=ONE),
    Scenario("http_1m", "HTTP 1 MiB bodies", "cost", "http", http(path="/1048576", expect=1048576, conns=8)),
    Scenario("tcp_rr", "TCP request/response 128 B", "cost", "tcp", {"mode": "rr", "conns": 64, "expect": 128}, instructions=ONE),
    Scenario("tcp_bulk", "TCP bulk, 4 connections", "bulk", "bulk", {"mode": "bulk", "conns": 4}, per="GB"),
    Scenario("post", "pipelined POST 1 KiB, 16 connections, 8 deep", "cost", "http",
             http(method="POST", body=1024, depth=8, conns=16), instructions=ONE),
    Scenario("fresh", "new connection per request", "cost", "http", http(fresh=1, conns=16, sources=64), instructions=ONE),
    Scenario("one_route", "the same requests with one cluster and route", "cost", "http", http(path=ROUTE_PATHS), group="routes",
             only=OWN, instructions=ONE),
    Scenario("routes", f"{ROUTES:,} clusters and routes", "cost", "http", http(path=ROUTE_PATHS), setup="routes", group="routes",
             instructions=ONE),
    Scenario("latency", "latency at half of the best other proxy's saturation rate", "latency", "http", http()),
    Scenario("idle_conns", "idle keep-alive connections, RSS of each", "idle_conns", "http",
             {"mode": "idle", "conns": 10_000, "path": "/128", "expect": 128}, per="connection"),
    Scenario("idle_process", "idle process, one worker, RSS", "idle_process", "http", per="process"),
    Scenario("one_worker", "one worker, free on two cores, 128 connections", "cost", "http", http(conns=128), setup="free", group="workers",
             only=OWN),
    Scenario("two_workers", "two workers on two cores, 128 connections", "cost", "http", http(conns=128), setup="workers2", group="workers",
             only=OWN, instructions={"conns": 2}),
]
BY_NAME = {s.name: s for s in SCENARIOS}
