"""Ctrl-C, and a notebook's stop button, held back until stopping leaves nothing half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """The first interrupt inside the block only sets the event, which the block looks at; the second one interrupts.

    Outside the main thread, where no interrupt arrives, and where interrupts are ignored, the event stays unset.
    """
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield asked
        return

    def note(_: int, __: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Whatever the block does to the handlers of signals that end a process, they are as before after it."""
    ending = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")  # Windows lacks the last two
    before = {n: signal.getsignal(n) for n in (getattr(signal, name, None) for name in ending) if n is not None}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # no other may set them
            for number, handler in before.items():
                signal.signal(number, handler)
