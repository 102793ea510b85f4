"""Fixtures of the black-box suite: a proxy process by configuration, scripted origins, one printed seed."""

import os
import pathlib
import random
import sys

import pytest
from hypothesis import settings

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import Origin, Proxy  # noqa: E402
from harness.process import command  # noqa: E402

# The gate must not depend on luck: the same examples each time. FASTPROXY_EXPLORE=1 looks for new ones.
settings.register_profile("gate", derandomize=True, database=None)
if not os.environ.get("FASTPROXY_EXPLORE"):
    settings.load_profile("gate")

SEED = int(os.environ.get("FASTPROXY_TEST_SEED", random.SystemRandom().randrange(2**32)))


def pytest_report_header(config):
    return f"fastproxy seed: {SEED} (FASTPROXY_TEST_SEED), command: {command()}"


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: full-size rows, minutes to hours; run by `make soak`")


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the full-size rows as well")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--soak") and "soak" not in (config.getoption("-m") or ""):
        skip = pytest.mark.skip(reason="full size: make soak")
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(skip)


def makers(tmp_path_factory):
    proxies, origins = [], []

    def proxy(text, **options):
        assert command(), "no fastproxy command: make build"
        proxies.append(Proxy(tmp_path_factory.mktemp("proxy"), text, **options))
        return proxies[-1]

    def origin(script=None, **options):
        origins.append(Origin(script, **options))
        return origins[-1]

    def close():
        for one in origins:
            one.close()
        faults = []
        for one in proxies:
            try:
                one.stop()
            except AssertionError as fault:
                faults.append(str(fault))
        assert not faults, "\n".join(faults)

    return proxy, origin, close


@pytest.fixture
def _made(tmp_path_factory):
    proxy, origin, close = makers(tmp_path_factory)
    yield proxy, origin
    close()


@pytest.fixture(scope="module")
def _made_once(tmp_path_factory):
    proxy, origin, close = makers(tmp_path_factory)
    yield proxy, origin
    close()


@pytest.fixture
def proxy(_made):
    """proxy(CONFIG, name=value...) -> a running Proxy; ended, and asked for sanitizer reports, after the test."""
    return _made[0]


@pytest.fixture
def origin(_made):
    """origin(script=None, kind="tcp"|"tcp6"|"unix") -> an Origin."""
    return _made[1]


@pytest.fixture(scope="module")
def proxy_once(_made_once):
    """As `proxy`, for tables of payloads which share one process."""
    return _made_once[0]


@pytest.fixture(scope="module")
def origin_once(_made_once):
    return _made_once[1]


@pytest.fixture
def rng():
    return random.Random(SEED)
