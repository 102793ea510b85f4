"""What the written documents name is there: files, functions, states, options, and examples that are accepted."""

import pathlib
import re

import pytest

from fastproxy.model import load
from fastproxy.tables.errors import ERRORS
from fastproxy.tables.options import SECTIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITTEN = sorted(path for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if "GENERATED" not in path.read_text()[:40])
SOURCES = "\n".join(path.read_text() for path in ROOT.glob("fastproxy/**/*") if path.suffix in (".py", ".pyx", ".pxd", ".h"))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_names_exist(page):
    text = page.read_text()
    missing = [to for to in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / to).exists()]
    for code in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"[\w/]+\.(pyx|pxd|py|yaml|md)", code):
            places = [ROOT, ROOT / "fastproxy", ROOT / "fastproxy/core", ROOT / "fastproxy/proxy", ROOT / "bench", page.parent]
            missing += [code] if not any((place / code).exists() for place in places) and code != "proxy.yaml" else []
        elif re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|[CS]_[A-Z]+", code):
            missing += [code] if not re.search(rf"\b{code}\b", SOURCES) else []
    assert not missing


def test_options_of_the_threat_model():
    """`listener.limits.fields` and the like are options, and the defaults beside them theirs."""
    found = re.findall(r"`((?:listener|route|cluster)(?:\.[a-z_]+)+)` (?:`([^`]+)`|(none))", (ROOT / "docs/threat_model.md").read_text())
    for path, said, none in found:
        section, *between, name = path.split(".")
        for part in between:
            section = SECTIONS[section].options[part].type[-1]
        option = SECTIONS[section].options[name]
        assert option.built and said in ("", str(option.default).replace("'", "").replace("True", "true")) and (not none or option.default in ("0s", "0B")), path
    assert len(found) >= 20


def test_the_errors_named_in_pages_exist():
    text = (ROOT / "docs/life_of_a_request.md").read_text()
    assert {"client_abort", "no_route", "no_endpoint", "upgrade_refused", "upstream_reset"} <= set(re.findall(r"`(\w+)`", text)) & set(ERRORS)


def test_examples_are_accepted():
    shown = re.search("```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert shown == (ROOT / "examples/proxy.yaml").read_text()
    assert [one.name for one in load(path=ROOT / "examples/proxy.yaml").listeners] == ["web", "raw"]
