"""Resources: what they mean, every error with its path at once, and that a change touches only what it must."""

import msgpack
import pytest

from fastproxy.model import load_dict
from fastproxy.model.resources import Resources, Secret
from fastproxy.wire.messages import Packed, faults_of

WEB = {"bind": "127.0.0.1:0", "routes": {"table": "all"}}
ALL = {"routes": [{"name": "v2", "match": {"path_prefix": "/v2"}, "cluster": "b"}, {"cluster": "a", "timeout": "250ms"}]}


def packed(resources):
    return {kind: {name: Packed(msgpack.packb(one)) for name, one in named.items()} for kind, named in resources.items()}


def whole(**resources):
    found, faults = Resources().replaced(packed(resources))
    assert not faults, faults
    return found


def base():
    return whole(listener={"web": WEB}, route_table={"all": ALL}, cluster={"a": {}, "b": {"endpoints": ["127.0.0.1:2"]}},
                 endpoints={"a": {"endpoints": ["127.0.0.1:1", {"address": "unix:/a", "weight": 2}]}})


def errors(faults):
    return [(one.path, one.code) for one in faults_of(faults)]


def refused(**resources):
    found, faults = Resources().replaced(packed(resources))
    assert found is None
    return errors(faults)


def test_the_model_is_that_of_the_same_file():
    routes = [{"name": "v2", "match": {"path_prefix": "/v2"}, "cluster": "b"}, {"cluster": "a", "timeout": "250ms"}]
    file = {"workers": 2, "admin": "unix:/a.sock", "listeners": [{"name": "web", "bind": "127.0.0.1:0", "routes": routes}, {"name": "db", "bind": "127.0.0.1:1", "protocol": "tcp", "cluster": "b"}],
            "clusters": [{"name": "a", "endpoints": ["127.0.0.1:1", {"address": "unix:/a", "weight": 2}]}, {"name": "b", "endpoints": ["127.0.0.1:2"]}]}
    found, faults = base().changed(packed({"settings": {"proxy": {"workers": 2, "admin": "unix:/a.sock"}},
                                           "listener": {"db": {"name": "db", "bind": "127.0.0.1:1", "protocol": "tcp", "cluster": "b"}}}), {})
    assert not faults and found.config == load_dict(file)


def test_virtual_hosts_of_a_table_and_defaults():
    hosts = [{"hosts": ["*"], "routes": [{"direct_response": {"status": 200}}, {"name": "x", "redirect": {"scheme": "https"}}]}]
    one = whole(listener={"web": WEB}, route_table={"all": {"virtual_hosts": hosts}}).config
    assert (one.workers, one.admin, one.drain_timeout) == (1, None, 30) and one.listeners[0].routes is None
    assert [route.name for route in one.listeners[0].virtual_hosts[0].routes] == ["virtual_hosts[0].routes[0]", "x"]
    assert whole().config.listeners == []


BROKEN = [
    ({"listener": {"web": {"bind": "127.0.0.1:80801", "routes": []}}}, [("resources.listener.web.bind", "value")]),
    ({"listener": {"web": []}}, [("resources.listener.web", "type")]),
    ({"listener": {"a b": {}}}, [('resources.listener["a b"]', "value")]),
    ({"listener": {"": {}}}, [('resources.listener[""]', "value")]),
    ({"listener": {"web": {**WEB, "name": "other"}}, "route_table": {"all": {"routes": []}}}, [("resources.listener.web.name", "conflict")]),
    ({"listener": {"web": {**WEB, "tls": {"secret": "s"}}}, "route_table": {"all": {"routes": []}}, "secret": {"s": {"key": "k"}}}, [("resources.listener.web.tls", "not_built")]),
    ({"cluster": {"a": {"endpoints": [], "tls": {"secret": "s"}}}}, [("resources.cluster.a.tls", "not_built")]),
    ({"listener": {"web": {**WEB, "cluster": "a"}}}, [("resources.listener.web", "conflict"), ("resources.listener.web.routes.table", "unknown_route_table"),
                                                      ("resources.listener.web.cluster", "unknown_cluster")]),
    ({"listener": {"web": {**WEB, "routes": {"tabel": "all"}}}}, [("resources.listener.web.routes.tabel", "unknown_key")]),
    ({"listener": {"web": {**WEB, "routes": {}}}}, [("resources.listener.web.routes", "missing")]),
    ({"listener": {"web": {**WEB, "protocol": "tcp"}}, "route_table": {"all": {"routes": []}}}, [("resources.listener.web.routes", "conflict"), ("resources.listener.web", "missing")]),
    ({"listener": {"web": WEB}}, [("resources.listener.web.routes.table", "unknown_route_table")]),
    ({"listener": {"web": {"bind": "127.0.0.1:1", "routes": [{"match": {"headers": {"x": {"regex": "("}}}, "cluster": "a"}]}}},
     [("resources.listener.web.routes[0].match.headers.x.regex", "value"), ("resources.listener.web.routes[0].cluster", "unknown_cluster")]),
    ({"route_table": {"t": {}}}, [("resources.route_table.t", "missing")]),
    ({"route_table": {"t": {"routes": [], "virtual_hosts": []}}}, [("resources.route_table.t.virtual_hosts", "value"), ("resources.route_table.t", "conflict")]),
    ({"route_table": {"t": {"routes": {"table": "t"}}}}, [("resources.route_table.t.routes", "type")]),
    ({"route_table": {"t": {"routes": [{"name": "x", "cluster": "a"}, {"name": "x", "cluster": "b"}]}}},
     [("resources.route_table.t.routes[1].name", "duplicate"), ("resources.route_table.t.routes[0].cluster", "unknown_cluster"), ("resources.route_table.t.routes[1].cluster", "unknown_cluster")]),
    ({"cluster": {"a": {}}}, [("resources.cluster.a", "missing")]),
    ({"cluster": {"a": {"balance": "best", "connect_timeout": 5, "endpoints": ["x"]}}},
     [("resources.cluster.a.balance", "value"), ("resources.cluster.a.connect_timeout", "value"), ("resources.cluster.a.endpoints[0]", "value")]),
    ({"cluster": {"a": {"endpoints": ["unix:relative"]}}}, [("resources.cluster.a.endpoints[0]", "value")]),
    ({"endpoints": {"a": {"endpoints": ["127.0.0.1:1", "127.0.0.1:1"]}}}, [("resources.endpoints.a.endpoints[1]", "duplicate")]),
    ({"endpoints": {"a": ["127.0.0.1:1"]}}, [("resources.endpoints.a", "type")]),
    ({"endpoints": {"a": {"endpoints": [{"address": "127.0.0.1:1", "labels": {"": "x"}}]}}}, [('resources.endpoints.a.endpoints[0].labels[""]', "value")]),
    ({"secret": {"s": {}}}, [("resources.secret.s", "missing")]),
    ({"secret": {"s": {"key": "k", "pin": "1"}}}, [("resources.secret.s.pin", "unknown_key")]),
    ({"secret": {"s": {"key": ["k"]}}}, [("resources.secret.s.key", "type")]),
    ({"policy": {"p": {}}}, [("resources.policy.p", "not_built")]),
    ({"settings": {"proxy": {"workers": "1", "listeners": []}}}, [("resources.settings.proxy.workers", "type"), ("resources.settings.proxy.listeners", "unknown_key")]),
    ({"settings": {"other": {}}}, [("resources.settings.other", "value")]),
    ({"service": {"x": {}}}, [("resources.service", "unknown_kind")]),
    ({"settings": {"proxy": {"admin": "127.0.0.1:7"}}, "listener": {name: {"bind": "127.0.0.1:7", "routes": []} for name in "ab"}},
     [("resources.listener.b.bind", "duplicate"), ("resources.settings.proxy.admin", "duplicate")]),
    ({"listener": {f"l{i}": {"bind": "127.0.0.1:0", "routes": []} for i in range(501)}}, [("resources.listener", "range")]),
]


@pytest.mark.parametrize("resources, wanted", BROKEN, ids=range(len(BROKEN)))
def test_broken(resources, wanted):
    assert refused(**resources) == wanted


def test_all_errors_at_once_over_kinds():
    assert refused(listener={"web": {"bind": "x", "routes": {"table": "none"}}}, cluster={"a": {"balance": "best"}}, secret={"s": {}}) == [
        ("resources.listener.web.bind", "value"), ("resources.cluster.a.balance", "value"), ("resources.secret.s", "missing"),
        ("resources.listener.web.routes.table", "unknown_route_table"), ("resources.cluster.a", "missing")]
    assert len(refused(cluster={f"c{i}": {} for i in range(3000)})) <= 1001


def test_a_change_keeps_what_it_does_not_touch():
    before = base()
    after, faults = before.changed(packed({"endpoints": {"a": {"endpoints": ["127.0.0.1:9"]}}}), {})
    assert not faults and [one.address for one in after.clusters["a"].endpoints] == ["127.0.0.1:9"]
    assert after.clusters["b"] is before.clusters["b"] and after.listeners["web"] is before.listeners["web"] and after.entries["cluster"] is before.entries["cluster"]
    assert [one.name for one in after.config.clusters] == ["a", "b"] and not after.same(before)
    assert [one.address for one in before.clusters["a"].endpoints] == ["127.0.0.1:1", "unix:/a"]  # what serves is not changed under its feet
    table, faults = after.changed(packed({"route_table": {"all": {"routes": []}}}), {})
    assert not faults and table.listeners["web"].routes == [] and table.clusters["a"] is after.clusters["a"]
    gone, faults = table.changed(packed({"listener": {"web": {**WEB, "x_forwarded": False}}}), {"cluster": ["a"], "endpoints": ["a"]})
    assert not faults and list(gone.clusters) == ["b"] and not gone.listeners["web"].x_forwarded


def test_the_same_again_is_the_same():
    before = base()
    again, faults = before.replaced(before.packed())
    assert not faults and again.same(before) and again.clusters["a"] is before.clusters["a"] and again.listeners["web"] is before.listeners["web"]
    empty, faults = before.changed({}, {})
    assert not faults and empty.same(before)
    more, _ = before.changed(packed({"settings": {"proxy": {"drain_timeout": "1s"}}}), {})
    assert not more.same(before) and more.listeners["web"] is before.listeners["web"]
    fewer, _ = before.replaced({kind: named for kind, named in before.packed().items() if kind not in ("listener", "route_table")})
    assert not fewer.same(before) and fewer.config.listeners == []


CHANGES = [
    ({}, {"cluster": ["a"]}, [("resources.route_table.all.routes[1].cluster", "unknown_cluster")]),
    ({}, {"endpoints": ["a"]}, [("resources.cluster.a", "missing")]),
    ({}, {"route_table": ["all"]}, [("resources.listener.web.routes.table", "unknown_route_table")]),
    ({}, {"cluster": ["c", "c"], "nothing": ["x"]}, [("remove.cluster[0]", "value"), ("remove.cluster[1]", "value"), ("remove.nothing", "unknown_kind")]),
    ({"cluster": {"a": {}}}, {"cluster": ["a"]}, [("remove.cluster[0]", "conflict")]),
    ({"cluster": {"a": {"endpoints": 1}}}, {}, [("resources.cluster.a.endpoints", "type")]),
    ({"listener": {"web": {**WEB, "routes": {"table": "al"}}}}, {}, [("resources.listener.web.routes.table", "unknown_route_table")]),
]


@pytest.mark.parametrize("given, removed, wanted", CHANGES, ids=range(len(CHANGES)))
def test_a_broken_change_changes_nothing(given, removed, wanted):
    before = base()
    kept = before.config
    found, faults = before.changed(packed(given), removed)
    assert found is None and errors(faults) == wanted
    assert before.config is kept and before.changed({}, {})[0].same(before)


def test_what_goes_and_what_comes_in_one_change():
    found, faults = base().changed(packed({"cluster": {"c": {"endpoints": []}}, "route_table": {"all": {"routes": [{"cluster": "c"}]}}}), {"cluster": ["a", "b"], "endpoints": ["a"]})
    assert not faults and list(found.clusters) == ["c"]


def test_a_change_is_checked_no_wider_than_it_reaches(monkeypatch):
    before = whole(listener={"web": WEB}, route_table={"all": {"routes": [{"name": f"r{i}", "cluster": f"c{i % 100}"} for i in range(1000)]}},
                   cluster={f"c{i}": {} for i in range(100)}, endpoints={f"c{i}": {"endpoints": []} for i in range(100)})
    read = []
    value = Packed.value
    monkeypatch.setattr(Packed, "value", lambda self: read.append(self) or value(self))
    after, faults = before.changed(packed({"endpoints": {"c7": {"endpoints": ["127.0.0.1:1"]}}}), {})
    assert not faults and len(read) == 1 and [name for name, one in after.clusters.items() if one is not before.clusters[name]] == ["c7"]
    again = before.packed()
    again["endpoints"]["c8"] = packed({"x": {"y": {"endpoints": ["127.0.0.1:1"]}}})["x"]["y"]
    after, faults = before.replaced(again)
    assert not faults and len(read) == 2 and [name for name, one in after.clusters.items() if one is not before.clusters[name]] == ["c8"]


def test_secrets_do_not_show():
    one = whole(secret={"s": {"key": "hidden"}})
    assert "hidden" not in repr(one.entries["secret"]["s"].made) and one.entries["secret"]["s"].made == Secret(cert=None, key="hidden", ca=None)
    assert "hidden" not in repr(one.config)
