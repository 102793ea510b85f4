"""Each broken document is refused at the right place, by its path, in words that say what to do (rows: config_broken.py)."""

import importlib.util
import pathlib
import time

import pytest

from fastproxy.model import ConfigError, load, load_dict

spec = importlib.util.spec_from_file_location("config_broken", pathlib.Path(__file__).with_name("config_broken.py"))
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)


def refused(text, **options):
    with pytest.raises(ConfigError) as caught:
        load(text=text, **options)
    return caught.value.errors


@pytest.mark.parametrize("text, place, path, message", rows.BROKEN, ids=[f"{path or 'text'}: {message[:40]}" for _, _, path, message in rows.BROKEN])
def test_broken(text, place, path, message):
    first = refused(text, path="proxy.yaml")[0]
    assert (f"{first.line}:{first.col}", first.path) == (place, path), str(first)
    assert message in first.message
    assert str(first) == f"proxy.yaml:{place}: {path}: {first.message}" if path else str(first) == f"proxy.yaml:{place}: {first.message}"


def test_all_errors_at_once_in_the_order_of_the_text():
    errors = refused("""
workers: lots
drain_timeout: 5
listeners:
- {name: a, bind: 127.0.0.1:99999, routes: [{cluster: x}, {cluster: y, timeout: 1d}]}
- {name: a, bind: 127.0.0.1:1, protocl: http, routes: []}
clusters:
- {name: z, endpoints: ["nowhere"], balance: best}
""")
    assert [(one.line, one.path) for one in errors] == [
        (2, "workers"), (3, "drain_timeout"), (5, "listeners[0].bind"), (5, "listeners[0].routes[0].cluster"), (5, "listeners[0].routes[1].cluster"),
        (5, "listeners[0].routes[1].timeout"), (6, "listeners[1].name"), (6, "listeners[1].protocl"), (8, "clusters[0].endpoints[0]"), (8, "clusters[0].balance")]
    assert all(one.code and one.col for one in errors)


def test_duplicate_keys_do_not_hide_other_errors():
    assert [(one.line, one.code) for one in refused("listeners: []\nworkers: 1\nworkers: x\ndrain_timeout: 1\n")] == [(3, "duplicate_key"), (4, "value")]


def test_what_is_quoted_stays_on_one_line():
    for text in ('"\\e[2J\\nfake.yaml:1:1: x": 1', 'listeners: "a\\nb\\e[0m"', 'listeners: []\nadmin: "unix:/a\\nready"'):
        for one in refused(text, path="f"):
            assert str(one).isprintable()


def test_suggestions_cost_bounded_time():
    start = time.process_time()
    routes = "".join(f"  - {{cluster: cluster-x{i}}}\n" for i in range(2000))
    errors = refused(f"listeners:\n- name: a\n  bind: 127.0.0.1:1\n  routes:\n{routes}clusters:\n" + "".join(f"- {{name: cluster-{i}, endpoints: []}}\n" for i in range(5000)))
    assert "did you mean" in errors[0].message and len(errors) > 1000 and time.process_time() - start < 20


def test_the_number_of_errors_is_bounded():
    assert len(refused("listeners: []\nclusters: [" + "x, " * 20000 + "]")) <= 1100
    assert len(refused("listeners: []\n" + "workers: 1\n" * 20000)) <= 1100


def test_billion_laughs_is_refused_in_bounded_time():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases stand for more than 100000 values" in refused("\n".join(rows))[0].message


def test_deep_nesting_is_refused_not_a_crash():
    for text in ("[" * 200_000, "{a: " * 200_000, "- " * 100_000 + "x", "[" * 200_000 + "]" * 200_000):
        assert "nested deeper than 64 levels" in refused(text)[0].message


def test_huge_files_are_refused(tmp_path, monkeypatch):
    from fastproxy.model import yaml
    monkeypatch.setattr(yaml, "MAX_BYTES", 1 << 20)
    file = tmp_path / "huge.yaml"
    file.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(file)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_errors_of_a_dict_have_paths():
    with pytest.raises(ConfigError) as caught:
        load_dict({"listeners": [{"name": "a", "bind": "127.0.0.1:1", "routes": [{"cluster": "x", "timeout": 5}]}], "workers": True})
    assert [str(one) for one in caught.value.errors] == [
        "listeners[0].routes[0].timeout: a duration needs a unit: 5s or 5ms", "workers: expected a number from 0 to 256, or auto, found true",
        "listeners[0].routes[0].cluster: there is no cluster `x`"]
    for wrong in (None, [], "x", 3, {1: 2}, {"listeners": {1}}, {"listeners": [], "workers": 1.5}, {"listeners": [], "drain_timeout": b"5s"},
                  {"listeners": [], "workers": 10 ** 5000}, {"listeners": [], "drain_timeout": -10 ** 5000}, {"listeners": [], "admin": "unix:/\ud800"},
                  {"listeners": [{"name": "a", "bind": "127.0.0.1:1", "routes": [{"direct_response": {"status": 200, "body": "\ud800"}}]}]}):
        with pytest.raises(ConfigError):
            load_dict(wrong)
    looped = {}
    looped["listeners"] = [looped]
    with pytest.raises(ConfigError, match="nested deeper"):
        load_dict(looped)
