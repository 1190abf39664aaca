"""What a run says while it works: the listener and the kinds of events."""

from collections.abc import Callable, Mapping
from typing import Any


def silent(kind: str, fields: Mapping[str, Any]) -> None:
    """A listener that hears nothing."""


Listener = Callable[[str, Mapping[str, Any]], None]
