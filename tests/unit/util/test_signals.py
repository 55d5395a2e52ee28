import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from interrupts import interrupt_a_wait

from slurm_factory.util.signals import HELD, is_interrupt, signals_held


class Caught(BaseException):
    pass


def raise_caught(number: int, _frame: object) -> None:
    raise Caught(number)


@pytest.fixture(params=sorted(HELD))
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    before = signal.signal(request.param, raise_caught)
    yield request.param
    signal.signal(request.param, before)


def hold_twice(number: int, done: list[str]) -> None:
    with signals_held():
        with signals_held():
            os.kill(os.getpid(), number)
            done.append("the rest of the inner block")
        done.append("the rest of the outer block")
    done.append("what comes after")


def test_signal_never_cuts_a_block_and_is_not_lost(number: int) -> None:
    done: list[str] = []
    with pytest.raises(Caught):
        hold_twice(number, done)
    assert done == ["the rest of the inner block", "the rest of the outer block"]


def test_error_in_the_block_gives_the_signals_back() -> None:
    with pytest.raises(ZeroDivisionError), signals_held():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def fail_after(number: int) -> None:
    with signals_held():
        os.kill(os.getpid(), number)
        raise ZeroDivisionError


def test_a_signal_is_not_lost_when_the_block_that_held_it_fails(number: int) -> None:
    with pytest.raises(Caught) as caught:
        fail_after(number)
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_second_thread_does_not_let_a_signal_through(number: int) -> None:
    done: list[str] = []
    leave = threading.Event()
    other = threading.Thread(target=leave.wait)
    other.start()
    try:
        with pytest.raises(Caught):
            hold_twice(number, done)
    finally:
        leave.set()
        other.join()
    assert len(done) == 2


def test_default_action_of_a_held_signal_comes_after_the_block() -> None:
    code = (
        "import os, signal\n"
        "from slurm_factory.util.signals import signals_held\n"
        "with signals_held():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('whole', flush=True)\n"
        "print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "whole\n")


def test_interrupt_of_a_wait_for_another_thread_counts_as_one() -> None:
    with pytest.raises(RuntimeError, match="lock") as caught:
        interrupt_a_wait()
    assert is_interrupt(caught.value)
    assert not is_interrupt(RuntimeError("cannot start new thread"))
