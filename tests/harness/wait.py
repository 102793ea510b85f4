"""Waiting: on a condition, never for a length of time; `pace` is for tests in which time itself is the input."""

import os
import time

SCALE = float(os.environ.get("FASTPROXY_TEST_SCALE", "1"))  # sanitizer builds and slow machines raise it


def wait_for(condition, timeout=5.0, what=""):
    """The first true value of condition(); AssertionError after timeout seconds (times SCALE)."""
    end = time.monotonic() + timeout * SCALE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout} s: {what or condition}"
        time.sleep(0.002)


def pace(seconds):
    """Leave the link silent for so long: the silence is what is tested."""
    time.sleep(seconds)


def on_time(measure, low, late, tries=6):
    """measure() -> seconds: never before `low`, and at least once not more than `late` after it. A busy machine only adds."""
    seen, late = [], late * SCALE
    while len(seen) < tries:
        seen.append(measure())
        assert seen[-1] >= low - 0.002, seen
        if seen[-1] <= low + late:
            return
    raise AssertionError(f"not by {low + late:.3f} s in any of {len(seen)}: {seen}")
