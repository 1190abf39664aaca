"""Progress on stderr, and what shows it: loaded when a run begins, not with the command line."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.events import Listener


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator["Listener"]:
    """A listener that shows a run on stderr: a bar on a terminal, lines elsewhere, only warnings when quiet."""
    from foveate.cli.bar import progress as shown

    with shown(quiet) as listener:
        yield listener
