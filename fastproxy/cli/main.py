"""The command `fastproxy`. Each verb imports what it needs when it is called: the proxy itself starts with as little as possible.

Exit codes: 0 fine, 1 the answer is no or the file is invalid, 2 usage, 3 unreachable.
"""

import argparse
import sys

from fastproxy.version import VERSION

# Verbs of the whole product that this version does not have: refused by name, so that nobody looks for a typing error.
NOT_BUILT = ("agent", "apply", "certs", "control", "convert", "dashboard", "delete", "describe", "dev", "diff", "edges", "explain", "get",
             "history", "redirect", "rollback", "rollouts", "state", "support", "tap", "token", "top", "watch", "proxy list", "proxy diff")


LEVELS = ("debug", "info", "warning", "error")


def duration(text):
    """Of an option: seconds. argparse takes the sentence of an ArgumentTypeError alone."""
    from fastproxy.model.values import duration
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def layout(prog):
    """Without a width argparse imports shutil, and with it compressors, to learn the terminal's: a megabyte of each process."""
    return argparse.HelpFormatter(prog, width=78)


def parser():
    top = argparse.ArgumentParser(prog="fastproxy", description="A TCP and HTTP/1.1 proxy.", allow_abbrev=False, formatter_class=layout,
                                  epilog="example: fastproxy run -c proxy.yaml")
    top.add_argument("--version", action="version", version=f"fastproxy {VERSION}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name, about, example, among=verbs):
        one = among.add_parser(name, help=about, description=about, epilog=f"example: {example}", allow_abbrev=False, formatter_class=layout)
        return one

    run = verb("run", "Run a proxy from a configuration file, or from what a snapshot source says; with -- COMMAND ARGS behind it, start the command when the proxy is ready, and end with its exit code.",
               "fastproxy run -c proxy.yaml, or fastproxy run --snapshots unix:/run/agent.sock --node web-1, or fastproxy run -c proxy.yaml -- COMMAND")
    run.add_argument("-c", "--config", metavar="FILE", help="the configuration (YAML)")
    run.add_argument("-t", "--test", action="store_true", help="only say whether the file is valid")
    run.add_argument("--snapshots", metavar="unix:PATH", help="the socket of a snapshot source, instead of a file")
    run.add_argument("--node", metavar="NAME", help="with --snapshots: what this proxy is called")
    run.add_argument("--stay", action="store_true",
                     help="after a hot restart (SIGUSR2) stay, as the parent of the new process, for who watches this one")
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
    validate.add_argument("file", metavar="FILE", help="a configuration (YAML)")
    validate.add_argument("-o", "--output", choices=("text", "json"), default="text")

    def asking(one, *outputs):
        """Of a command that asks a running proxy."""
        one.add_argument("--admin", metavar="ADDRESS", help="the proxy's admin address, unix:/path or ip:port (or the environment's FASTPROXY_ADMIN)")
        one.add_argument("-o", "--output", choices=outputs, default=outputs[0])

    stat = verb("stat", "Show what a running proxy has done, by route and cluster.", "fastproxy stat --window 5s")
    stat.add_argument("--window", metavar="DURATION", type=duration, help="only what is done from now on, for so long; without it all since the start")
    asking(stat, "table", "json")

    routes = verb("routes", "Show the routes of a running proxy in the order in which they are tried, with their targets.", "fastproxy routes web")
    routes.add_argument("listener", metavar="LISTENER", nargs="?", help="only of this one")
    asking(routes, "table", "json")

    endpoints = verb("endpoints", "Show every endpoint of a running proxy with its state, and the reason for it.", "fastproxy endpoints reviews-v1")
    endpoints.add_argument("cluster", metavar="CLUSTER", nargs="?", help="only of this one")
    asking(endpoints, "table", "json")

    proxy = verb("proxy", "Look at one running proxy, and tell it what to do.", "fastproxy proxy config")
    actions = proxy.add_subparsers(dest="action", metavar="ACTION", required=True)
    config = verb("config", "Print the running configuration with every default, in the shape of the file; credentials are left out.",
                  "fastproxy proxy config > running.yaml", actions)
    asking(config, "yaml", "json")
    drain = verb("drain", "Accept no more connections, and let what is open end.", "fastproxy proxy drain --wait 30s", actions)
    drain.add_argument("--wait", metavar="DURATION", type=duration, help="for what is open to end; 1 if it has not by then")
    asking(drain, "text", "json")
    log = verb("log", "Show the log levels, or set one for a while.", "fastproxy proxy log snapshots debug --ttl 5m", actions)
    log.add_argument("component", metavar="COMPONENT", nargs="?", help="only of this one; `all` is all of them")
    log.add_argument("level", metavar="LEVEL", nargs="?", help="debug, info, warning or error")
    log.add_argument("--ttl", metavar="DURATION", type=duration, help="until the level returns (default 10m)")
    asking(log, "table", "json")

    check = verb("check", "Look for what is wrong with a proxy, its machine and its configuration, and say how it is mended.",
                 "fastproxy check, or fastproxy check -c proxy.yaml before it runs")
    check.add_argument("-c", "--config", metavar="FILE", help="check this file, too; if no proxy answers at its `admin`, whether it could run")
    asking(check, "table", "json")

    completion = verb("completion", "Print a script that completes words of this command in a shell.", "fastproxy completion bash > /etc/bash_completion.d/fastproxy")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")

    version = verb("version", "Print the version.", "fastproxy version -v")
    version.add_argument("-v", "--verbose", action="store_true", help="with Python and the core's build")
    version.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return top


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    for words in argv[:1], argv[:2]:
        if " ".join(words) in NOT_BUILT:
            return usage(f"'{' '.join(words)}' is not built yet")
    command = ()
    if argv and argv[0] == "run" and "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], argv[at + 1:]
        if not command:
            return usage("no command after --")
    options = parser().parse_args(argv)
    if options.verb == "run":
        options.command = command
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
        return usage("-t runs no command") if options.command else judge(options.config, "text")
    from fastproxy.proxy.main import run
    return run(options.config, options.command, options.stay)


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
    return run(address, options.node, {os.getuid(), 0, *options.source_uid}, options.command, options.stay)


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
    return judge(options.file, options.output)


def judge(path, output):
    from fastproxy.cli.validate import check
    return check(path, output)


def stat(options):
    from fastproxy.cli.stat import stat
    return stat(options.admin, options.output, options.window)


def routes(options):
    from fastproxy.cli.routes import routes
    return routes(options.admin, options.listener, options.output)


def endpoints(options):
    from fastproxy.cli.endpoints import endpoints
    return endpoints(options.admin, options.cluster, options.output)


def proxy(options):
    from fastproxy.cli import proxy
    if options.action == "config":
        return proxy.config(options.admin, options.output)
    if options.action == "drain":
        return proxy.drain(options.admin, options.wait, options.output)
    component, level = options.component, options.level
    if level is None and component in LEVELS:
        component, level = None, component
    if level is not None and level not in LEVELS:
        return usage(f"`{level}` is no level: {', '.join(LEVELS)}")
    if options.ttl is not None and (level is None or not 1 <= options.ttl <= 999_999):
        return usage("--ttl goes with a level, and is 1s at least")
    return proxy.log(options.admin, component, level, options.ttl, options.output)


def check(options):
    from fastproxy.cli.check import check
    return check(options.admin, options.config, options.output)


def completion(options):
    from fastproxy.cli.completion import completion
    return completion(options.shell, parser())


def version(options):
    from fastproxy.cli.version import version
    return version(options.verbose, options.output)
