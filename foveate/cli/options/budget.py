"""The budget: limits on what one picture may cost, and the time that the work may take."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict, TypeVar

import typer

from foveate.cli import units
from foveate.cli.options.declare import option

T = TypeVar("T")


class Runtime(enum.StrEnum):
    """In which runtime a latency counts."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"


MaxMacs = Annotated[str | None, option("--max-macs", metavar="N", help="Multiply-adds of one picture, e.g. 300M.")]
MaxMemory = Annotated[
    str | None, option("--max-memory", metavar="SIZE", help="Weights and maps of one picture in float32, e.g. 20MB.")
]
_TIME = "Wall time for all of it, e.g. 90s, 10m, 1h30m."
Time = Annotated[str, typer.Option("--time", metavar="TIME", help=_TIME)]
TimeOrNone = Annotated[str | None, option("--time", metavar="TIME", help=_TIME)]


class Limits(TypedDict):
    """Limits of a picture as fit, search and compress take them."""

    max_latency_ms: float | None
    max_size_bytes: int | None
    runtime: Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class Budget:
    """What the network that is found may cost at most, as typed."""

    max_latency: Annotated[
        str | None,
        option("--max-latency", metavar="TIME", help="Median latency of a picture on this device, e.g. 5ms."),
    ] = None
    runtime: Annotated[
        Runtime,
        option("--runtime", metavar="NAME", help="In which the latency counts: onnxruntime, or openvino (an extra)."),
    ] = Runtime.onnxruntime
    max_size: Annotated[
        str | None, option("--max-size", metavar="SIZE", help="Size of the exported model, e.g. 5MB.")
    ] = None

    def limits(self) -> Limits:
        """The same in numbers; ConfigError for a text that is none."""
        return {
            "max_latency_ms": read(units.latency_ms, "--max-latency", self.max_latency),
            "max_size_bytes": read(units.size_bytes, "--max-size", self.max_size),
            "runtime": self.runtime.value,
        }


def read(parse: Callable[[str, str], T], name: str, text: str | None) -> T | None:
    """The number that an option says, None where it was left out."""
    return None if text is None else parse(name, text)
