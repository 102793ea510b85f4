"""Broken configuration documents: each error names its place and cause, all of a file at once. `fastproxy validate` says them."""

import subprocess
import sys

import pytest

from fastproxy.model import ConfigError, load

GOOD = """\
listeners:
  - name: web
    bind: 127.0.0.1:0
    protocol: http
    routes:
      - match: {host: a.example, path_prefix: /v2}
        cluster: a
      - split: [{cluster: a, weight: 90}, {cluster: b, weight: 10}]
clusters:
  - {name: a, endpoints: ["127.0.0.1:9080", {address: "unix:/run/app.sock", weight: 2}]}
  - {name: b, endpoints: ["[::1]:9080"]}
"""
BROKEN = [
    ("cluster: a\n", "clustr: a\n", "7:9", "did you mean `cluster`"),
    ("cluster: a\n", "cluster: c\n", "7:18", "there is no cluster `c`"),
    ("127.0.0.1:9080", "127.0.0.1:70000", "10:27", "from 1 to 65535"),
    ("protocol: http", "protocol: htp", "4:15", "htp"),
    ("bind: 127.0.0.1:0", "bind: 127.0.0.1", "3:11", "expected ip:port"),
    ("    protocol: http", "    name: again\n    protocol: http", "4:5", "`name` is repeated"),
    ("weight: 2", "weight: on", "10:85", "found `on`"),
    ("clusters:\n", "clusters:\n  - {name: a, endpoints: []}\n", "11:12", "a"),
]


def errors(tmp_path, text):
    path = tmp_path / "proxy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    return [str(error) for error in caught.value.errors]


def test_a_good_file_is_accepted(tmp_path):
    path = tmp_path / "proxy.yaml"
    path.write_text(GOOD)
    assert [c.name for c in load(str(path)).clusters] == ["a", "b"]


@pytest.mark.parametrize("old, new, place, cause", BROKEN)
def test_an_error_names_its_place_and_cause(tmp_path, old, new, place, cause):
    found = errors(tmp_path, GOOD.replace(old, new, 1))
    assert any(f"proxy.yaml:{place}:" in line and cause in line for line in found), found


def test_all_errors_at_once(tmp_path):
    text = GOOD
    for old, new, _, _ in BROKEN[2:4]:
        text = text.replace(old, new, 1)
    assert len(errors(tmp_path, text)) == 2


def test_the_command_says_the_same(tmp_path):
    path = tmp_path / "proxy.yaml"
    for text, code in ((GOOD, 0), (GOOD.replace("cluster: a\n", "cluster: c\n", 1), 1)):
        path.write_text(text)
        done = subprocess.run([sys.executable, "-m", "fastproxy", "validate", str(path)], capture_output=True, text=True)
        assert done.returncode == code, done
    assert "there is no cluster `c`" in done.stdout + done.stderr
