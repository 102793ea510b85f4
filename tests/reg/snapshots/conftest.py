"""`source`: one on a socket of its own; `following`: a proxy that runs with it. The state of each test is apart."""

import pytest

from harness import SnapshotSource


@pytest.fixture
def source(tmp_path):
    one = SnapshotSource(tmp_path / "source.sock")
    yield one
    one.close()


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def following(proxy, source, state):
    """following(*args) -> a Proxy which has been started, and is not ready before its first snapshot."""
    def start(*args, node="web-1", **env):
        return proxy("", run=["--snapshots", f"unix:{source.path}", "--node", node], args=args, wait=False,
                     env={"XDG_STATE_HOME": str(state), **env})
    return start


@pytest.fixture
def resources():
    """resources(version, app=address...) -> a listener that says `version` at /version and forwards the rest, if there is where to."""
    def make(version="1", **endpoints):
        routes = [{"match": {"path": "/version"}, "direct_response": {"status": 200, "body": version}}]
        routes += [{"match": {"path_prefix": f"/{name}"}, "cluster": name} for name in endpoints]
        return {"listener": {"web": {"bind": "127.0.0.1:0", "routes": {"table": "all"}}}, "route_table": {"all": {"routes": routes}},
                "cluster": {name: {} for name in endpoints}, "endpoints": {name: {"endpoints": [address]} for name, address in endpoints.items()}}
    return make
