"""What a node needs of the process that it runs in: a clock that never goes back, calm garbage collection, an end."""

import gc
import os
import time
from typing import Any, Final

EXIT_FAILED: Final = 70
"""Exit code of a node that found itself wrong, or its disk. (EX_SOFTWARE of sysexits.h)"""

LEAVE_S: Final = 10.0
"""A process that has to end ends by then, whatever hangs."""

GC_THRESHOLD: Final = 50_000
"""Objects made between two collections. The hot path makes none that hang together in circles."""


def use_monotonic_time(reactor: Any) -> None:
    """Let the reactor's timers follow a monotonic clock. To be called before any timer is set.

    Twisted's follow the wall clock: when somebody sets it back an hour, no timer of the process fires for an hour, and
    a node would neither send a heartbeat nor suspect anybody.
    """
    assert not reactor.getDelayedCalls(), "timers have been set by the wall clock already"
    reactor.seconds = time.monotonic


def tune_garbage_collection() -> None:
    """Collect rarely, and never look again at what is there now: what a log held stays for long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def end_process(reactor: Any) -> None:
    """Stop the reactor and end this process with EXIT_FAILED. (twistd by itself would exit with 0.)"""
    reactor.addSystemEventTrigger("after", "shutdown", os._exit, EXIT_FAILED)
    reactor.callLater(LEAVE_S, os._exit, EXIT_FAILED)
    if reactor.running:
        reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)
