"""Signals: the first SIGTERM or Ctrl-C asks to stop after the step, the second stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Which signal asked to stop; 0 while none did."""

    def __init__(self) -> None:
        self.signal = 0


class Stopped(KeyboardInterrupt):
    """A signal came: raised where the work stands, so that nothing waits for its end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Within the block SIGTERM and Ctrl-C raise Stopped; a second one ends the process at once with 128 + its number.

    For work whose results are written whole as they come: what is under way is given up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = 0

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal came
        if came:
            os._exit(128 + number)
        came = number
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(number: int) -> int:
    """Of a run that a signal stopped with everything saved: 75 (resumable) after SIGTERM, 130 after Ctrl-C."""
    return 130 if number == signal.SIGINT else 75


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within the block signals are noted, not obeyed; a second one ends the process at once with 128 + its number."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python lets only the main thread handle signals
        yield stop
        return

    def note(number: int, _: FrameType | None) -> None:
        if stop.signal:
            os._exit(128 + number)
        stop.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
