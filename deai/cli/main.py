"""Where the `deai` command begins."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit with its status.

    Ctrl-C while the modules are still loading ends the process without a traceback.
    """
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from deai.cli.program import run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
