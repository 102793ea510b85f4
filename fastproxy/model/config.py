"""The model of a configuration: what the file says, validated, with every default filled in.

Names and meanings are those of the options (tables/options.py), which also has the defaults. Times are seconds, sizes bytes,
addresses are `ip:port`, `[v6]:port` or `unix:/absolute/path` in canonical form. Nothing here is ever changed once made.
"""

from typing import Dict, List, Optional, Tuple, Union

from msgspec import Struct

from fastproxy.model import logformat


class Matcher(Struct, frozen=True, kw_only=True):
    kind: str                   # exact | prefix | suffix | contains | regex | present
    value: str                  # "" for present
    invert: bool


class Match(Struct, frozen=True, kw_only=True):
    host: Union[str, Matcher, None]             # lower case; "*.x", "x.*"; None: any
    path: Optional[Matcher]
    path_prefix: Optional[str]
    methods: Optional[List[str]]
    headers: Dict[str, Matcher]                 # by name in lower case
    query: Dict[str, Matcher]


class Split(Struct, frozen=True, kw_only=True):
    cluster: str
    weight: int


class Redirect(Struct, frozen=True, kw_only=True):
    scheme: Optional[str]
    host: Optional[str]
    port: Optional[int]
    path: Optional[str]
    path_prefix: Optional[str]
    status: int


class DirectResponse(Struct, frozen=True, kw_only=True):
    status: int
    body: str
    headers: Dict[str, str]


class Rewrite(Struct, frozen=True, kw_only=True):
    path: Optional[str]
    path_prefix: Optional[str]
    host: Optional[str]


class HeaderEdit(Struct, frozen=True, kw_only=True):
    set: Dict[str, str]
    add: Dict[str, List[str]]
    remove: List[str]


class Route(Struct, frozen=True, kw_only=True):
    name: str                                   # as given, or its place
    match: Match
    split: List[Split]                          # one row for `cluster`, none for the two below
    redirect: Optional[Redirect]
    direct_response: Optional[DirectResponse]
    timeout: float
    upgrades: List[str]
    rewrite: Optional[Rewrite]
    request_headers: Optional[HeaderEdit]
    response_headers: Optional[HeaderEdit]


class VirtualHost(Struct, frozen=True, kw_only=True):
    name: str
    hosts: List[str]
    routes: List[Route]


class Timeouts(Struct, frozen=True, kw_only=True):
    head: float
    stream_idle: float
    idle: float


class Limits(Struct, frozen=True, kw_only=True):
    head_bytes: int
    fields: int
    body_bytes: int


class AccessLog(Struct, frozen=True, kw_only=True):
    path: str
    format: logformat.Format


class Listener(Struct, frozen=True, kw_only=True):
    name: str
    bind: str
    protocol: str                               # http | tcp
    timeouts: Timeouts
    limits: Limits
    routes: Optional[List[Route]]               # http: this
    virtual_hosts: Optional[List[VirtualHost]]  # or this
    cluster: Optional[str]                      # tcp
    x_forwarded: bool
    request_id: bool
    via: Optional[str]
    access_log: Optional[AccessLog]
    filters: List[str]


class Endpoint(Struct, frozen=True, kw_only=True):
    address: str
    weight: int
    zone: Optional[str]
    labels: Dict[str, str]


class Dns(Struct, frozen=True, kw_only=True, tag_field="source", tag="dns"):
    name: str                                   # lower case; with its dot at the end, if it was given one
    port: int
    resolvers: Optional[Tuple[str, ...]]        # None: those of the system


class EndpointFile(Struct, frozen=True, kw_only=True, tag_field="source", tag="file"):
    path: str


class ClusterLimits(Struct, frozen=True, kw_only=True):
    connections: int
    pending: int
    requests: int


class RetryBudget(Struct, frozen=True, kw_only=True):
    percent: int
    min_per_second: int


class Outlier(Struct, frozen=True, kw_only=True):
    consecutive_failures: int
    base_ejection_time: float
    max_ejection_time: float
    max_ejection_percent: int


class Cluster(Struct, frozen=True, kw_only=True):
    name: str
    protocol: str
    balance: str                                # one of tables.options.BALANCERS, or a registered name
    connect_timeout: float
    idle_timeout: float
    limits: ClusterLimits
    retry_budget: Optional[RetryBudget]         # None: off
    outlier: Optional[Outlier]                  # None: off
    endpoints: List[Endpoint]                   # with `discovery`: what was found, at first nothing
    discovery: Union[Dns, EndpointFile, None]
    fallback: Optional[str]


class Config(Struct, frozen=True, kw_only=True):
    workers: Union[int, str]                    # a number, or "auto"
    admin: Optional[str]
    metrics: Optional[str]
    drain_timeout: float
    drain_grace: float
    listeners: List[Listener]
    clusters: List[Cluster]
