"""Weights on their way: what enters a race is fetched in the background, while others are measured.

What is there already, and what is from scratch, waits for nothing. Threads of a process that ends do not hold it.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Sequence

from foveate.errors import FoveateError, WeightsError
from foveate.events import Listener, StageEvent
from foveate.zoo.hub import FACTS, PREFIX, cached_file, hub_file, pinned
from foveate.zoo.sources import TORCHVISION
from foveate.zoo.torch_hub import cached_torchvision, torchvision_file

AT_ONCE = 2  # files
SAY_S = 5.0  # between two lines of one file's progress


class Fetching:
    """The files of some addresses, fetched in their order by a few threads."""

    def __init__(self, addresses: Sequence[str | None], listener: Listener):
        self.listener = listener
        self.state: dict[str, Incoming] = {}
        todo: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        for address in addresses:
            if address is not None and address not in self.state and is_away(address):
                self.state[address] = Incoming(address)
                todo.put(self.state[address])
        for _ in range(min(AT_ONCE, len(self.state))):
            threading.Thread(target=_work, args=(todo,), daemon=True).start()

    def wait(self, address: str) -> str:
        """The address once its weights are here, with the commit that they are of; what is awaited is said.

        Raises what fetching raised.
        """
        coming = self.state.get(address)
        if coming is None:
            return at_commit(address)
        said = 0.0
        while not coming.done.wait(0.2):
            if time.monotonic() - said > SAY_S:
                said = time.monotonic()
                self.listener(StageEvent(coming.line()))
        if coming.error is not None:
            raise coming.error
        if not coming.told:
            coming.told = True
            self.listener(StageEvent(f"fetched {address}: {coming.came / 1e6:,.1f} MB in {coming.seconds:.0f} s"))
        return at_commit(address)


class Incoming:
    """One address and how far it is."""

    def __init__(self, address: str):
        self.address = address
        self.came = self.whole = 0  # bytes
        self.seconds = 0.0
        self.error: FoveateError | None = None
        self.done = threading.Event()
        self.told = False

    def line(self) -> str:
        """How far it is."""
        whole = f" of {self.whole / 1e6:,.1f}" if self.whole else ""
        return f"fetching {self.address}: {self.came / 1e6:,.1f}{whole} MB"

    def hear(self, came: int, whole: int) -> None:
        """Progress, from the thread that fetches."""
        self.came, self.whole = came, whole

    def fetch(self) -> None:
        """Get it; an error is kept for who waits."""
        begun = time.monotonic()
        try:
            if self.address.startswith(TORCHVISION):
                torchvision_file(self.address, self.hear)
            else:
                with contextlib.suppress(WeightsError):  # of weights alone
                    hub_file(self.address, FACTS)  # preprocessing: what the repository says counts
                hub_file(self.address, progress=self.hear)
        except FoveateError as error:
            self.error = error
        except Exception as error:  # whoever waits must hear of it
            self.error = WeightsError(f"{self.address}: {str(error)[:160] or type(error).__name__}")
        finally:
            self.seconds = time.monotonic() - begun
            self.done.set()


def _work(todo: "queue.SimpleQueue[Incoming]") -> None:
    while True:
        try:
            coming = todo.get_nowait()
        except queue.Empty:
            return
        coming.fetch()


def is_away(address: str) -> bool:
    """Whether the weights at an address have to be fetched."""
    if address.startswith(TORCHVISION):
        return cached_torchvision(address) is None
    return address.startswith(PREFIX) and cached_file(address) is None


def at_commit(address: str) -> str:
    """A hub's address with the commit that is cached; others as they are."""
    path = cached_file(address) if address.startswith(PREFIX) else None
    return pinned(address, path) if path is not None else address
