"""The page of the Python interface: signature and docstring of every public name, and of what those return."""

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

import foveate

HEAD = """# Python

The public names of `foveate`, usually imported as `fv`. What stands here stays: a change of it is announced one minor
version before ([what is public](../development/public.md)). All names have exact types (`py.typed`).

A `Listener` is a function that hears one record after another of `foveate.events`: a `StageEvent`, an `EpochEvent`...

"""
WIDTH = 96


def hints_of(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that only type checkers load
        return {}


def classes_in(hint: Any) -> Iterator[type]:
    """The classes of foveate that a type names."""
    if inspect.isclass(hint) and not isinstance(hint, types.GenericAlias) and hint.__module__.startswith("foveate"):
        yield hint
    for inner in typing.get_args(hint):
        yield from classes_in(inner)


def results() -> list[type]:
    """What public functions return, and is not public by name itself."""
    public = {getattr(foveate, name) for name in foveate.__all__ if name != "__version__"}
    found: dict[type, None] = {}
    for name in foveate.__all__:
        value = getattr(foveate, name)
        if inspect.isfunction(value):
            hint = hints_of(value).get("return", value.__annotations__.get("return"))
            found |= dict.fromkeys(c for c in classes_in(resolved(hint, value)) if c not in public)
    return sorted(found, key=lambda c: c.__name__)


def resolved(hint: Any, function: Any) -> Any:
    """A type that is written as text, looked up where the function stands."""
    if not isinstance(hint, str):
        return hint
    names = [getattr(inspect.getmodule(function), n.strip(), None) for n in hint.split("|")]
    return typing.Union[tuple(n for n in names if n is not None)] if any(names) else None  # noqa: UP007


def short(hint: Any) -> str:
    """A type as one writes it: without the modules that it comes from."""
    if hint is inspect.Parameter.empty:
        return ""
    text = hint if isinstance(hint, str) else hint.__name__ if inspect.isclass(hint) else repr(hint)
    if isinstance(hint, types.GenericAlias | types.UnionType) or typing.get_origin(hint):
        text = repr(hint)
    text = re.sub(r"typing\.Optional\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", r"\1 | None", text)
    text = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)
    text = re.sub(r"Callable\[\[StageEvent \|[^\]]*\], None\]", "Listener", text)  # foveate/events.py
    return text.replace("NoneType", "None").replace("pathlib.", "")


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return ""
    value = parameter.default
    text = value.__name__ if callable(value) else str(value) if isinstance(value, enum.Enum) else repr(value)
    return f" = {text}" if parameter.annotation is not inspect.Parameter.empty else f"={text}"


def signature(value: Any, name: str) -> str:
    """One line where it fits, else a line a parameter."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return f"{name}(...)"
    words, kind = [], inspect.Parameter.POSITIONAL_OR_KEYWORD
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and kind is not parameter.kind:
            words.append("*")
        kind = parameter.kind
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(kind, "")
        hint = short(parameter.annotation)
        words.append(f"{stars}{parameter.name}{f': {hint}' if hint else ''}{default_of(parameter)}")
    back = short(found.return_annotation) if found.return_annotation is not inspect.Signature.empty else ""
    end = f") -> {back}" if back and not inspect.isclass(value) else ")"
    line = f"{name}({', '.join(words)}{end}"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {w},\n" for w in words) + end


def text_of(value: Any) -> str:
    """The docstring as Markdown: indented blocks are code, `NAME: what` lines stay prose."""
    doc = inspect.getdoc(value) or ""
    first, _, rest = doc.partition("\n")
    rest = textwrap.dedent(rest).strip("\n")
    # what stands further in than the text around it is an example
    blocks, prose = [f"{first}\n"], True
    lines = rest.splitlines()
    base = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
    for line in lines:
        deep = len(line) - len(line.lstrip()) >= base + 4 and line.strip()
        if deep and prose and (blocks[-1] == "" or blocks[-1].endswith(":")):
            blocks, prose = [*blocks, "", "```python"], False
        if not deep and line.strip() and not prose:
            blocks, prose = [*blocks, "```", ""], True
        blocks.append(line[base + 4 :] if not prose else line.strip())
    if not prose:
        blocks.append("```")
    return escaped(parameters_listed("\n".join(blocks), value))


def parameters_listed(text: str, value: Any) -> str:
    """Prose where "name: what it is." begins a sentence becomes a list, if the names are parameters of `value`."""
    try:
        names = [name for name in inspect.signature(value).parameters if name != "self"]
    except (TypeError, ValueError):
        return text
    if not names:
        return text
    name = "(?:" + "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) + ")"
    begins = re.compile(rf"(?:^|(?<=[.)] )|(?<=\n))({name}(?:, {name})*): ")
    paragraphs = []
    for part in re.split(r"(```.*?```)", text, flags=re.S):
        for paragraph in [part] if part.startswith("```") else part.split("\n\n"):
            if paragraph.startswith("```") or not begins.search(paragraph.strip("\n")):
                paragraphs.append(paragraph)
                continue
            pieces = begins.split(" ".join(paragraph.split()))
            lines = [pieces[0].strip(), ""] if pieces[0].strip() else []
            for names_of, what in zip(pieces[1::2], pieces[2::2], strict=True):
                shown = ", ".join(f"`{n}`" for n in names_of.split(", "))
                before, *after = re.split(r" (?=(?:Raises|Returns) )", what.strip())
                lines.append(f"- {shown}: {before}")
                lines += ["", *(line for text in after for line in (text, ""))] if after else []
            paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def escaped(text: str) -> str:
    """Angle brackets and stars of a docstring are text, but not within code."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    return "".join(p if i % 2 else p.replace("<", "&lt;").replace("*", r"\*") for i, p in enumerate(parts))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself or one of foveate's under it says something about."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        told = value.fget if isinstance(value, property) else value
        ours = (getattr(told, "__module__", None) or "").startswith("foveate")
        if not name.startswith("_") and ours and (inspect.isfunction(told)) and inspect.getdoc(told):
            yield name, value


def class_page(cls: type, title: str) -> list[str]:
    record = dataclasses.is_dataclass(cls)
    plain = inspect.getdoc(cls) or ""
    parts = [f"## {title}\n", "" if plain.startswith(f"{cls.__name__}(") else text_of(cls), ""]
    if record:
        own = written_types(cls)
        shown = [f for f in dataclasses.fields(cls) if f.name[0] != "_"]
        rows = [f"| `{f.name}` | `{cell(own.get(f.name) or short(f.type))}` |" for f in shown]
        parts += ["| field | type |", "|---|---|", *rows, ""] if rows else []
    for name, value in members(cls):
        if isinstance(value, property):
            parts += [f"### {title}.{name}\n", text_of(value.fget), ""]
        else:
            parts += [f"### {title}.{name}()\n", f"```python\n{signature(value, name)}\n```\n", text_of(value), ""]
    return parts


def written_types(cls: type) -> dict[str, str]:
    """The type of each field of a record, as its source has it; records under it are not looked at."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    fields = [n for n in tree.body if isinstance(n, ast.AnnAssign)] if isinstance(tree, ast.ClassDef) else []
    return {n.target.id: ast.unparse(n.annotation) for n in fields if isinstance(n.target, ast.Name)}


def cell(text: str) -> str:
    return text.replace("|", r"\|")


def page() -> str:
    parts = [HEAD]
    for name in sorted(foveate.__all__, key=str.lower):
        value = getattr(foveate, name)
        if inspect.isclass(value):
            parts += class_page(value, f"fv.{name}")
        elif callable(value):
            parts += [f"## fv.{name}()\n", f"```python\n{signature(value, f'fv.{name}')}\n```\n", text_of(value), ""]
    parts += ["# What they return\n"]
    for cls in results():
        parts += class_page(cls, cls.__name__)
    return "\n".join(parts)
