"""How options are declared: one that may be left out in a line, and records of options for several commands."""

import enum
import functools
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
import typer.core

METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "FILE", str: "TEXT"}


def running() -> Any:
    """The context of the running command; None outside of one. typer brings a click of its own, and this is its."""
    click = typer.Context.__mro__[1].__module__.rpartition(".")[0]
    return importlib.import_module(f"{click}.globals").get_current_context(silent=True)


def option(
    *names: str, help: str, metavar: str | None = None, low: float | None = None, high: float | None = None
) -> Any:
    """An option whose default says nothing: None, or what the help tells. low, high: the range of a number."""
    return typer.Option(*names, metavar=metavar, help=help, min=low, max=high, show_default=False)


class Command(typer.core.TyperCommand):
    """A command whose help names no type of Python: typer shows one behind the name of each argument."""

    def get_help(self, ctx: Any) -> str:
        """The help, aligned as it was."""
        return re.sub(r"(?m)(?<=\S) <[a-z][^>\n]*>(?=  |$)", lambda found: " " * len(found[0]), super().get_help(ctx))


def name_the_value(annotation: Any) -> None:
    """Give an option without a metavar one that is no type of Python: N, X, FILE, TEXT, or the choices."""
    kind, *marks = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    kinds = [k for k in get_args(kind) or (kind,) if k is not type(None)]
    for mark in marks:
        if isinstance(mark, typer.models.OptionInfo) and mark.metavar is None and bool not in kinds:
            if isinstance(kinds[0], type) and issubclass(kinds[0], enum.Enum):
                mark.metavar = "|".join(str(choice.value) for choice in kinds[0])
            else:
                mark.metavar = METAVARS.get(kinds[0], "TEXT")


def command_of(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: a parameter that is a record (dataclass) becomes an option a field.

    The function is called with the records; the result takes their fields by name, with the same defaults.
    """
    flat: list[inspect.Parameter] = []
    records: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(function).parameters.values():
        fields = [parameter]
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            fields = [
                f.replace(kind=parameter.kind) for f in inspect.signature(parameter.annotation).parameters.values()
            ]
            records[parameter.name] = parameter.annotation, [f.name for f in fields]
        flat += fields
    for parameter in flat:
        name_the_value(parameter.annotation)
    signature = inspect.Signature(flat)

    @functools.wraps(function)
    def command(*words: Any, **named: Any) -> None:
        given = signature.bind(*words, **named)
        given.apply_defaults()
        values = dict(given.arguments)
        for name, (record, fields) in records.items():
            values[name] = record(**{field: values.pop(field) for field in fields})
        function(**values)

    command.__signature__ = signature  # type: ignore[attr-defined]  # typer reads both
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command
