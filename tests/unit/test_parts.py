"""Parts of a configuration: what stays the same is not compiled again, and numbers stay with their clusters."""

import time

import msgspec
import pytest

from fastproxy.model import load_dict
from fastproxy.model.config import Endpoint
from fastproxy.proxy.compile import fallbacks_of
from fastproxy.proxy.loops import Loops
from fastproxy.proxy.reload import Running


def config(clusters=("a", "b"), routes=("a", "b"), port=1, **more):
    listeners = [{"name": "web", "bind": "127.0.0.1:0", "routes": [{"match": {"path_prefix": f"/{name}"}, "cluster": name} for name in routes]}]
    return {"workers": 0, "listeners": listeners, "clusters": [{"name": name, "endpoints": [f"127.0.0.1:{port}"], **more} for name in clusters]}


@pytest.fixture
def running():
    made = []

    def start(value):
        made.append(Running(load_dict(value)))
        return made[-1]

    yield start
    for one in made:
        one.close()


def built(one, value):
    """How many parts a step compiled."""
    before = one.parts.built
    one.apply(load_dict(value) if isinstance(value, dict) else value)
    return one.parts.built - before


def test_the_same_again_compiles_nothing(running):
    one = running(config())
    assert one.parts.built == 4                                        # two clusters, a table, a listener
    assert built(one, config()) == 0


def test_a_change_compiles_what_changed(running):
    one = running(config())
    other = config()
    other["clusters"][1]["endpoints"] = ["127.0.0.1:2"]
    assert built(one, other) == 1                                      # b
    assert built(one, config(routes=("b", "a"), port=1)) == 4 - 1      # b again, the table and its listener
    other = config(routes=("b", "a"))
    other["listeners"][0]["via"] = True
    assert built(one, other) == 1                                      # the listener alone


def test_fallbacks_compile_what_names_them(running):
    one = running(config(("a", "b", "c")))
    other = config(("a", "b", "c"))
    other["clusters"][0]["fallback"] = "c"
    assert built(one, other) == 3                                      # a; the table, which counts for c as well; its listener
    other["clusters"][2]["endpoints"] = []
    assert built(one, other) == 1 and built(one, other) == 0           # c
    first = config(("z", "c", "a", "b"))                               # a new cluster before its fallback, which is new as well
    first["clusters"] += [{"name": "y", "endpoints": []}]
    first["clusters"][0]["fallback"] = "y"
    built(one, first)
    assert one.parts.after == {"z": ("y",)} and one.parts.numbers["c"] == 2
    with_tcp = config()
    with_tcp["listeners"].append({"name": "db", "bind": "127.0.0.1:0", "protocol": "tcp", "cluster": "a"})
    built(one, with_tcp)
    with_tcp["clusters"][0]["fallback"] = "b"
    assert built(one, with_tcp) == 4                                   # a, the table, both listeners


def test_a_cluster_keeps_its_number_and_a_free_one_is_used_again(running):
    one = running(config(("a", "b", "c")))
    assert one.parts.numbers == {"a": 0, "b": 1, "c": 2}
    built(one, config(("c", "b", "x", "y"), routes=("c", "y")))
    numbers = one.parts.numbers
    assert (numbers["b"], numbers["c"]) == (1, 2) and sorted(numbers.values()) == [1, 2, 3, 4]
    built(one, config(("c", "z"), routes=("c",)))
    assert one.parts.numbers == {"c": 2, "z": 0}
    assert [part is not None for part in one.parts.by_number] == [number in (0, 2) for number in range(5)]


def test_what_cannot_be_compiled_changes_nothing(running):
    one = running(config())
    parts, numbers = list(one.parts.by_number), dict(one.parts.numbers)
    bad = config(("a", "b", "c"))
    bad["clusters"][2]["balance"] = {"name": "nobody"}
    with pytest.raises(ValueError, match="nobody"):
        one.apply(load_dict(bad))
    assert (one.parts.by_number, one.parts.numbers) == (parts, numbers) and built(one, config()) == 0


def test_one_endpoint_of_a_thousand_clusters(running):
    """At most 2 ms of the policy thread; the whole of it, at first, at most 500 ms."""
    routes = [{"match": {"host": f"h{i}.example.com", "path_prefix": f"/v{i}"}, "cluster": f"c{i % 1000}"} for i in range(10_000)]
    model = load_dict({"workers": 0, "listeners": [{"name": "web", "bind": "127.0.0.1:0", "routes": routes}],
                       "clusters": [{"name": f"c{i}", "endpoints": [f"127.0.0.1:{i + 1}"]} for i in range(1000)]})
    start = time.process_time()
    one = running({"workers": 0, "listeners": [], "clusters": []})
    one.apply(model)
    whole, best = time.process_time() - start, 9.0
    for port in range(7000, 7020):
        clusters = list(model.clusters)
        clusters[5] = msgspec.structs.replace(clusters[5], endpoints=[Endpoint(address=f"127.0.0.1:{port}", weight=1, zone=None, labels={})])
        model = msgspec.structs.replace(model, clusters=clusters)
        start = time.thread_time()
        assert built(one, model) == 1
        best = min(best, time.thread_time() - start)
        one.core.turn()
    assert best < 0.002 and whole < 0.5, (best, whole)


def models(text):
    value = {"listeners": [{"name": name, "bind": bind, "protocol": "tcp", "cluster": to} for name, bind, to in text["listeners"]],
             "clusters": [{"name": name, "endpoints": ends, "fallback": text.get("fallbacks", {}).get(name)} for name, ends in text["clusters"].items()]}
    model = load_dict(value)
    return [(one, one.bind) for one in model.listeners], model.clusters


def update(loops, text, changed=None):
    listeners, clusters = models(text)
    names = {one.name for one in clusters}
    return loops.update(listeners, clusters, names, clusters if changed is None else [one for one in clusters if one.name in changed], fallbacks_of(clusters))


def test_loops():
    loops = Loops()
    text = {"listeners": [("l", "127.0.0.1:1", "a"), ("m", "0.0.0.0:2", "b")],
            "clusters": {"a": ["127.0.0.1:2", "127.0.0.1:9"], "b": ["127.0.0.1:1"], "c": ["127.0.0.1:1", "192.0.2.1:2"]}}
    assert update(loops, text) == {("a", "127.0.0.1:2"): "loop", ("b", "127.0.0.1:1"): "loop", ("c", "127.0.0.1:1"): "self"}
    assert update(loops, text, []) == {}
    text["clusters"]["b"] = ["127.0.0.1:9"]
    assert update(loops, text, ["b"]) == {("a", "127.0.0.1:2"): "self", ("b", "127.0.0.1:1"): None}
    text["fallbacks"] = {"b": "a"}      # m -> b, and when b has no endpoint a -> m
    assert update(loops, text, ["b"]) == {("a", "127.0.0.1:2"): "loop"}
    text["fallbacks"] = {}
    assert update(loops, text, ["b"]) == {("a", "127.0.0.1:2"): "self"}
    text["listeners"].pop(0)
    text["clusters"].pop("c")
    assert update(loops, text, []) == {("c", "127.0.0.1:1"): None}
