"""Signals: the first SIGTERM or Ctrl-C asks to stop at the next point where all is saved, the second stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from foveate.errors import Interrupted, Terminated


class Stop:
    """Which signal asked to stop; 0 while none did."""

    def __init__(self) -> None:
        self.signal = 0
        self.immediate = 0  # blocks of at_once that are open

    def note(self, number: int, _: FrameType | None) -> None:
        """What a signal calls."""
        if self.signal:
            os._exit(128 + number)
        self.signal = number
        self.obey()

    def obey(self) -> None:
        """Within at_once: raise where a signal came."""
        if self.signal and self.immediate:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else Terminated

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal, also one that came before, is obeyed at once: KeyboardInterrupt or Terminated.

        For what is long and leaves nothing half-made: reading pictures, measuring, exporting.
        """
        self.immediate += 1
        try:
            self.obey()
            yield
        finally:
            self.immediate -= 1


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


def code_of(error: BaseException) -> int:
    """exit_code for what a signal raised: Stopped, KeyboardInterrupt or Terminated."""
    if isinstance(error, Stopped):
        return exit_code(error.number)
    return exit_code(signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """A signal that is obeyed at once within the block becomes Interrupted, which says the command to go on with."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        raise Interrupted(f"stopped and saved; go on with: {command}", code_of(error)) from None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within the block signals are noted, not obeyed; a second one ends the process at once with 128 + its number.

    A block within a block has the Stop of the outer one, so that what either noted is seen by both.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets only the main thread handle signals
        yield Stop()
        return
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(outer, Stop):
        yield outer
        return
    stop = Stop()
    before = {number: signal.signal(number, stop.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """A signal waits until the block is done, as for files that belong together, and is obeyed then."""
    with stop_on_signals() as stop:
        yield
    if stop.signal and signal.getsignal(signal.SIGTERM) != stop.note:  # else the block around this one will see it
        raise KeyboardInterrupt if stop.signal == signal.SIGINT else Terminated
