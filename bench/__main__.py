"""python -m bench run | bars | compare | log | reload | instructions"""
import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def command_run(a):
    from . import report, run
    settings = run.Settings.quick() if a.quick else run.Settings()
    if a.rounds:
        settings.rounds = a.rounds
    result = run.run(settings, a.scenario or (), a.proxy or (), a.quick)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = out / ("bench-" + time.strftime("%Y%m%d-%H%M%S"))
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    table = report.markdown(result)
    stem.with_suffix(".md").write_text(table)
    stem.with_suffix(".svg").write_text(report.svg(result))
    print(table)
    print(f"saved {stem}.json, .md and .svg")
    return 1 if any("error" in c for c in result["cells"]) else 0


def command_bars(a):
    from . import bars
    return bars.main(Path(a.result), Path(a.instructions) if a.instructions else None)


def command_compare(a):
    from . import compare
    return compare.main(Path(a.before), Path(a.after))


def command_log(a):
    from . import accesslog
    return accesslog.main(a.rounds)


def command_reload(a):
    from . import reload
    return reload.main(a.windows)


def command_instructions(a):
    from . import instructions
    return instructions.main(a)


def main():
    p = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog="bench/README.md has the method.")
    verbs = p.add_subparsers(required=True, metavar="VERB")
    v = verbs.add_parser("run", help="measure", epilog="example: python -m bench run --quick --proxy fastproxy --proxy nginx")
    v.add_argument("--quick", action="store_true", help="ends in 90 s, coarse")
    v.add_argument("--scenario", action="append", metavar="NAME", help="only this one; may be repeated")
    v.add_argument("--proxy", action="append", metavar="NAME", help="only this one; may be repeated")
    v.add_argument("--rounds", type=int, metavar="N")
    v.add_argument("--out", default="bench-results", metavar="DIR", help="where the result goes (default: %(default)s)")
    v.set_defaults(act=command_run)
    v = verbs.add_parser("bars", help="which bars a result meets", epilog="example: python -m bench bars bench-results/bench-....json")
    v.add_argument("result")
    v.add_argument("--instructions", metavar="FILE", help="figures saved by `instructions --save`, for the bars near 1.0")
    v.set_defaults(act=command_bars)
    v = verbs.add_parser("compare", help="ratio of two results, scenario by scenario")
    v.add_argument("before")
    v.add_argument("after")
    v.set_defaults(act=command_compare)
    v = verbs.add_parser("log", help="what the access log costs a worker, and the policy thread")
    v.add_argument("--rounds", type=int, default=6, metavar="N")
    v.set_defaults(act=command_log)
    v = verbs.add_parser("reload", help="what a reload does to the requests meanwhile")
    v.add_argument("--windows", type=int, default=9, metavar="N")
    v.set_defaults(act=command_reload)
    v = verbs.add_parser("instructions", help="user instructions per request, with callgrind",
                         epilog="example: python -m bench instructions --check")
    v.add_argument("--check", action="store_true", help="exit 1 when a figure is more than 3 %% above bench/instructions.json")
    v.add_argument("--record", action="store_true", help="write bench/instructions.json")
    v.add_argument("--scenario", action="append", metavar="NAME")
    v.add_argument("--proxy", action="append", metavar="NAME", help="default: fastproxy; others are only printed and saved")
    v.add_argument("--save", metavar="FILE", help="write all figures there")
    v.add_argument("--requests", type=int, default=2000, metavar="N", help="per count (default: %(default)s)")
    v.set_defaults(act=command_instructions)
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from .native import Missing
    try:
        return a.act(a)
    except Missing as e:
        print(f"missing: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
