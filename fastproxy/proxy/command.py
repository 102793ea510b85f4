"""`run ... -- COMMAND`: the program that the proxy serves. It starts when the proxy is ready, and the proxy ends when it has ended.

It shares our standard streams and our process group. What the terminal sends it (Ctrl-C) it has had when we hear of it, and it is not
sent again; what is sent to us alone, we pass on.
"""

import asyncio
import errno
import logging
import os
import signal
import sys
import threading

log = logging.getLogger("fastproxy.process")
PASSED_ON = (signal.SIGQUIT, signal.SIGUSR1)    # besides those that end us
DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)  # Python, or we, ignore or handle them; the command must not


class Command:
    def __init__(self, argv):
        self.argv, self.pid, self.code = argv, None, 0
        self.ended = asyncio.get_running_loop().create_future()

    @property
    def running(self):
        return self.pid is not None and not self.ended.done()

    def start(self, process):
        """As a shell would: 127 if there is no such program, 126 if it cannot be run."""
        try:
            self.pid = os.posix_spawnp(self.argv[0], self.argv, os.environ, setsigmask=process.mask, setsigdef=DEFAULTS)
        except (OSError, ValueError) as error:
            missing = getattr(error, "errno", None) == errno.ENOENT
            print(f"fastproxy: {self.argv[0]}: {'no such command' if missing else getattr(error, 'strerror', None) or error}", file=sys.stderr, flush=True)
            return self.on_end(127 if missing else 126)
        log.info("started %s as process %d", self.argv[0], self.pid)
        process.watch_child(self.pid).add_done_callback(lambda ended: self.on_end(ended.result()))

    def on_end(self, code):
        self.code = code
        self.ended.set_result(None)

    def signal(self, number):
        if self.running:
            os.kill(self.pid, number)

    def in_our_group(self):
        """Whether the terminal's signals to us reach it as well."""
        try:
            return os.getpgid(self.pid) == os.getpgrp()
        except OSError:
            return False


def hear_interrupts(loop, on_interrupt):
    """Calls on_interrupt(whether the terminal sent it). Only a thread that waits for SIGINT learns that; all others block it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def hear():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())    # the others are the main thread's
        while True:
            sent = signal.sigwaitinfo({signal.SIGINT})
            try:
                loop.call_soon_threadsafe(on_interrupt, sent.si_code > 0)     # SI_KERNEL
            except RuntimeError:    # the loop has ended
                return

    threading.Thread(target=hear, name="interrupts", daemon=True).start()
