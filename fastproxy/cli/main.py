"""The command `fastproxy`. Each verb imports what it needs when it is called: the proxy itself starts with as little as possible.

Exit codes: 0 fine, 1 the answer is no or the file is invalid, 2 usage, 3 unreachable.
"""

import argparse
import sys

from fastproxy.version import VERSION

# Verbs of the whole product that this version does not have: refused by name, so that nobody looks for a typing error.
NOT_BUILT = ("agent", "apply", "certs", "check", "completion", "control", "convert", "dashboard", "delete", "describe", "dev", "diff", "edges",
             "endpoints", "explain", "get", "history", "proxy", "redirect", "rollback", "rollouts", "routes", "state", "support",
             "tap", "token", "top", "watch")


def layout(prog):
    """Without a width argparse imports shutil, and with it compressors, to learn the terminal's: a megabyte of each process."""
    return argparse.HelpFormatter(prog, width=78)


def parser():
    top = argparse.ArgumentParser(prog="fastproxy", description="A TCP and HTTP/1.1 proxy.", allow_abbrev=False, formatter_class=layout,
                                  epilog="example: fastproxy run -c proxy.yaml")
    top.add_argument("--version", action="version", version=f"fastproxy {VERSION}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name, about, example):
        one = verbs.add_parser(name, help=about, description=about, epilog=f"example: {example}", allow_abbrev=False, formatter_class=layout)
        return one

    run = verb("run", "Run a proxy from a configuration file, or from what a snapshot source says.",
               "fastproxy run -c proxy.yaml, or fastproxy run --snapshots unix:/run/agent.sock --node web-1")
    run.add_argument("-c", "--config", metavar="FILE", help="the configuration (YAML)")
    run.add_argument("-t", "--test", action="store_true", help="only say whether the file is valid")
    run.add_argument("--snapshots", metavar="unix:PATH", help="the socket of a snapshot source, instead of a file")
    run.add_argument("--node", metavar="NAME", help="with --snapshots: what this proxy is called")
    run.add_argument("--source-uid", metavar="UID", type=int, action="append", default=[],
                     help="with --snapshots: a user who may be the source, besides our own and root; may be repeated")

    push = verb("push", "Send a configuration file to a proxy that waits for snapshots, and say whether it took it.",
                "fastproxy push proxy.yaml --snapshots unix:/run/agent.sock")
    push.add_argument("file", metavar="FILE", help="a configuration (YAML), or `resources:` as in a snapshot")
    push.add_argument("--snapshots", metavar="unix:PATH", required=True, help="the socket to listen on: the one the proxy connects to")
    push.add_argument("--timeout", metavar="SECONDS", type=float, default=30.0, help="for the proxy to come and to answer (default 30)")
    push.add_argument("--proxy-uid", metavar="UID", type=int, action="append", default=[],
                      help="a user whose proxies may connect, besides our own and root; may be repeated")
    push.add_argument("-o", "--output", choices=("text", "json"), default="text")

    validate = verb("validate", "Say whether a configuration file is valid, with every error in it.", "fastproxy validate proxy.yaml")
    validate.add_argument("file", metavar="FILE")
    validate.add_argument("-o", "--output", choices=("text", "json"), default="text")

    stat = verb("stat", "Show what a running proxy has done, by route and cluster.", "fastproxy stat --admin unix:/run/fastproxy.sock")
    stat.add_argument("--admin", metavar="ADDRESS", help="the proxy's admin address (or the environment's FASTPROXY_ADMIN)")
    stat.add_argument("-o", "--output", choices=("table", "json"), default="table")

    version = verb("version", "Print the version.", "fastproxy version -v")
    version.add_argument("-v", "--verbose", action="store_true", help="with Python and the core's build")
    version.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return top


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in NOT_BUILT:
        return usage(f"'{argv[0]}' is not built yet")
    options = parser().parse_args(argv)
    return globals()[options.verb](options)


def usage(text):
    print(f"fastproxy: {text}", file=sys.stderr)
    return 2


def run(options):
    if options.snapshots:
        return run_snapshots(options)
    if options.node or options.source_uid:
        return usage("--node and --source-uid go with --snapshots")
    if not options.config:
        return usage("run needs -c FILE, or --snapshots unix:PATH --node NAME")
    if options.test:
        return check(options.config, "text")
    from fastproxy.proxy.main import run
    return run(options.config)


def run_snapshots(options):
    if options.config or options.test:
        return usage("--snapshots stands in place of -c FILE")
    if not options.node:
        return usage("run --snapshots needs --node NAME")
    from fastproxy.model import values
    try:
        values.name(options.node)
        address = socket_path(options.snapshots)
    except ValueError as error:
        return usage(str(error))
    import os
    from fastproxy.proxy.snapshots import run
    return run(address, options.node, {os.getuid(), 0, *options.source_uid})


def push(options):
    try:
        path = socket_path(options.snapshots)
    except ValueError as error:
        return usage(str(error))
    from fastproxy.cli.push import push
    return push(options.file, path, options.timeout, options.proxy_uid, options.output)


def socket_path(address):
    from fastproxy.model import values
    if not address.startswith("unix:"):
        raise ValueError("--snapshots is unix:PATH")
    return values.address(address)[5:]


def validate(options):
    return check(options.file, options.output)


def check(path, output):
    from fastproxy.cli.validate import check
    return check(path, output)


def stat(options):
    from fastproxy.cli.stat import stat
    return stat(options.admin, options.output)


def version(options):
    from fastproxy.cli.version import version
    return version(options.verbose, options.output)
