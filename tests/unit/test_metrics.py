"""The text of /metrics holds for a strict parser, its histograms add up, and a scrape is cheap (G1, G2)."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stand_in import Proxy, histogram

from fastproxy.proxy import metrics


@pytest.fixture
def families():
    return {family.name: family for family in text_string_to_metric_families(metrics.prometheus(Proxy()))}


def value(family, name, **labels):
    (found,) = [one for one in family.samples if one.name == name and all(one.labels[key] == text for key, text in labels.items())]
    return found.value


def test_counters_and_labels(families):
    requests = families["fastproxy_requests"]
    assert requests.type == "counter"
    assert value(requests, "fastproxy_requests_total", status_class="2xx") == 993
    assert value(requests, "fastproxy_requests_total", status_class="5xx") == 7
    assert requests.samples[0].labels == {"listener": "web", "route": 'route "1"\\', "cluster": "app", "status_class": "2xx"}
    assert value(families["fastproxy_errors"], "fastproxy_errors_total", cause="no_route") == 4
    assert value(families["fastproxy_connections"], "fastproxy_connections", listener="web") == 2
    assert value(families["fastproxy_upstream_connect_failures"], "fastproxy_upstream_connect_failures_total", cluster="app") == 1


def test_each_family_and_series_stands_once():
    lines = metrics.prometheus(Proxy(routes=50)).splitlines()
    keys = [line.rsplit(" ", 1)[0] for line in lines if line[0] != "#"]
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(keys) == len(set(keys)) and len(heads) == len(set(heads))


def test_histograms_are_cumulative_and_end_with_the_count(families):
    family = families["fastproxy_request_duration_seconds"]
    assert family.type == "histogram"
    buckets = [(float(one.labels["le"]), one.value) for one in family.samples if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets)
    assert dict(buckets)[131072e-9] == 999 and buckets[-1] == (float("inf"), 1000)
    assert value(family, "fastproxy_request_duration_seconds_count") == 1000
    assert value(family, "fastproxy_request_duration_seconds_sum") == pytest.approx((131072 * 999 + 2**21) / 1e9)


def test_quantiles():
    ms = 1_000_000
    spread = histogram((1 * ms, 50), (2 * ms, 45), (8 * ms, 5))
    assert [metrics.quantile(spread, q) for q in (0.5, 0.95, 0.99)] == [0.001, 0.002, 0.008]
    assert metrics.quantile(histogram(), 0.5) is None


def test_a_scrape_of_100_routes_is_cheap():
    proxy = Proxy(routes=100)
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        metrics.prometheus(proxy)
        best = min(best, time.process_time() - start)
    assert best < 0.05


def test_report_is_plain():
    import json
    report = json.loads(json.dumps(metrics.report(Proxy())))
    assert report["routes"][0]["status"]["5xx"] == 7 and report["routes"][0]["duration_ms"]["p50"] == 0.131
    assert report["listeners"]["web"]["address"] == "127.0.0.1:8080"
    assert report["clusters"]["app"]["endpoints"][0]["connect_failures"] == 1
