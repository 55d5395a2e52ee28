"""Sections that signals must not interrupt."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals of a user, an init system or a closing terminal that end a command."""


def handle_endings(handler: Callable[[int, FrameType | None], object]) -> None:
    """Set `handler` for SIGINT, SIGTERM and SIGHUP; ignored signals, such as SIGHUP under
    nohup(1), stay ignored."""
    for number in HELD:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP while the block runs.

    The first signal is handled after the block has ended, also by an error, so its handler raises
    after the block and not within. Blocks may be nested. Uses handlers and not a signal mask:
    another thread may receive a signal that the main one has blocked, and Python then still runs
    the handler in the main thread (Python's library reference, signal).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in HELD}
    for number in HELD:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is an interrupt, or one of Python's own that came of it.

    A condition variable that is interrupted while it gives up its lock raises RuntimeError (Lib/
    threading.py, Condition.wait), and pools of threads wait for those.
    """
    if isinstance(error, RuntimeError) and error.__context__:
        return is_interrupt(error.__context__)
    return isinstance(error, KeyboardInterrupt)
