"""Ctrl-C at places that no test would meet by chance."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


def interrupt_a_wait() -> None:
    """Wait for another thread, and interrupt that after the lock has been given up."""
    condition = threading.Condition()
    sys.settrace(_interrupt_without_lock)
    try:
        with condition:
            condition.wait()
    finally:
        sys.settrace(None)


def _interrupt_without_lock(frame: FrameType, event: str, _: object) -> Any:
    if frame.f_code is not threading.Condition.wait.__code__:
        return None
    if event == "line" and "saved_state" in frame.f_locals:
        sys.settrace(None)
        signal.raise_signal(signal.SIGINT)
    return _interrupt_without_lock
