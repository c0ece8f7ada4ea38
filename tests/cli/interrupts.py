"""Ctrl-C for programs that tests start."""

import signal


def heed_interrupts() -> None:
    """In a child: take Ctrl-C seriously. A shell's background jobs, and so what they start, are told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
