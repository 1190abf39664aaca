"""Records that are values: frozen, validated, hashable, JSON both ways; and the call strings "name(k=v)" (floor 0, no
torch).
"""

import ast
import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter

from foveate.errors import ConfigError

T = TypeVar("T")

MAX_JSON_BYTES = 4 * 2**20  # a config is a few kilobytes; a pruned ResNet-1202 is a few hundred
MAX_DEPTH = 32  # nesting of a config file

# Bounded numbers. A config file can ask for nothing outside them.
Count = Annotated[int, Field(ge=1, le=4096)]  # blocks, groups, kernels
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels
Kernel = Annotated[int, Field(ge=1, le=31)]
Stride = Annotated[int, Field(ge=1, le=8)]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]


@dataclass_transform(frozen_default=True, kw_only_default=False)
def record(cls: type[T]) -> type[T]:
    """Class decorator: a frozen pydantic dataclass that refuses unknown keys and wrong types with a ConfigError."""
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))(cls)
    inner = made.__init__

    @functools.wraps(inner)
    def init(self: Any, *args: Any, **fields: Any) -> None:
        try:
            inner(self, *args, **fields)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(error, made)) from None

    made.__init__ = init
    return made


def near(name: str, known: Iterable[str]) -> str:
    """The hint after an unknown name: the nearest known one, or the first few."""
    known = sorted(known)
    match = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if match:
        return f"did you mean {' or '.join(match)}?"
    return f"known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"


def near_key(record: Any, key: str, before: str = "") -> str:
    """The hint after a key that a record (class or value) does not have: the same key deeper inside, else a near one.

    before: the dotted path of the record, with its last dot; it stands before what is found.
    """
    paths = dotted_paths(record)
    same = [before + path for path in paths if path.rpartition(".")[2] == key]
    if same:
        return f"did you mean {' or '.join(same[:3])}?"
    here = field_names(record)
    if difflib.get_close_matches(key, here, cutoff=0.5):
        return near(key, here)
    last: dict[str, str] = {}
    for path in paths:
        last.setdefault(path.rpartition(".")[2], path)
    found = difflib.get_close_matches(key.rpartition(".")[2], last, n=2, cutoff=0.7)
    return f"did you mean {' or '.join(before + last[name] for name in found)}?" if found else near(key, here)


def dotted_paths(record: Any) -> list[str]:
    """Paths of all fields of a record (class or value) and of the records inside it, those near the root first."""
    paths, inner = [], []
    for f in dataclasses.fields(record):
        paths.append(f.name)
        child = _record_in(f.type) if isinstance(record, type) else getattr(record, f.name)
        if dataclasses.is_dataclass(child):
            inner += [f"{f.name}.{path}" for path in dotted_paths(child)]
    return paths + inner


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """table[name], or a ConfigError that names the near ones."""
    if name not in table:
        raise ConfigError(f'unknown {what} "{name}": {near(name, table)}')
    return table[name]


def field_names(cls: Any) -> list[str]:
    """The field names of a record class or value."""
    return [f.name for f in dataclasses.fields(cls)]


def explain(error: pydantic.ValidationError, cls: Any) -> str:
    """One line for the first fault of a pydantic error: path = value; what was expected."""
    fault = error.errors(include_url=False)[0]
    if isinstance(own := fault.get("ctx", {}).get("error"), ConfigError):  # raised by a __post_init__: it says it all
        return str(own)
    *outer, last = ["", *map(str, fault["loc"])]
    unknown = fault["type"] in ("unexpected_keyword_argument", "extra_forbidden")  # then the last may be any text
    path = [p for p in (*outer, last) if p and ("[" not in p or (unknown and p is last))]  # tuple[...]: of a union
    where = f"{cls.__name__}.{'.'.join(path)}" if path else cls.__name__
    if unknown:
        return f'{where}: unknown key "{last}"; {near_key(*_record_at(cls, [*path[:-1], last]))}'
    given = repr(fault.get("input"))
    given = given if len(given) <= 60 else given[:57] + "..."
    if fault["type"] in ("missing", "missing_argument"):
        return f"{where}: this key is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where} = {given}: {message[0].lower()}{message[1:]}"


def _record_at(cls: Any, path: list[str]) -> tuple[Any, str, str]:
    """(the record class in which the last key of path stands, that key, the path of the record with its dot)."""
    before = ""
    for part in path[:-1]:
        hint = next((f.type for f in dataclasses.fields(cls) if f.name == part), None)
        inner = _record_in(hint)
        before += f"{part}."
        if inner is not None:
            cls = inner
    return cls, path[-1], before


def _record_in(hint: Any) -> Any:
    """The record class inside a type such as tuple[Stage, ...] or Layers | None."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((r for a in getattr(hint, "__args__", ()) if (r := _record_in(a)) is not None), None)


def to_dict(value: Any) -> Any:
    """A record as plain JSON data. A record with a `family` (or other) tag keeps it, for it is a field."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_dict(getattr(value, name)) for name in field_names(value)}
    if isinstance(value, (tuple, list)):
        return [to_dict(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_dict(v) for k, v in value.items()}
    return value


def to_json(value: Any) -> str:
    """A record (or plain data) as JSON text, keys in field order, numbers exact, always finite."""
    return json.dumps(to_dict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON text as plain data. Refuses duplicate keys, NaN, deep nesting and files over MAX_JSON_BYTES."""
    if len(text) > MAX_JSON_BYTES:
        raise ConfigError(f"{what}: {len(text):,} bytes; a JSON file here has at most {MAX_JSON_BYTES:,}")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if not text.strip():
            raise ConfigError(f"{what}: the file is empty; expected JSON")
        data = json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=_no_twins(what), parse_constant=_no_constant(what)
        )
    except UnicodeDecodeError:
        raise ConfigError(f"{what}: not UTF-8 text; expected JSON") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{what}: line {error.lineno}, column {error.colno}: not JSON ({error.msg.lower()})"
        ) from None
    except RecursionError:
        raise ConfigError(f"{what}: nested too deep; at most {MAX_DEPTH} levels") from None
    except ConfigError:
        raise
    except ValueError as error:  # Python refuses integers of over 4,300 digits
        raise ConfigError(f"{what}: {str(error).split(';')[0].lower()}") from None
    if _depth(data) > MAX_DEPTH:
        raise ConfigError(f"{what}: nested too deep; at most {MAX_DEPTH} levels")
    return data


def _no_twins(what: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                raise ConfigError(f'{what}: key "{key}" stands twice')
            seen[key] = value
        return seen

    return pairs


def _no_constant(what: str) -> Callable[[str], Any]:
    def constant(name: str) -> Any:
        raise ConfigError(f"{what}: {name} is not a number that a config may hold")

    return constant


def _depth(data: Any) -> int:
    """Levels of nesting, without recursion."""
    level, layer = 0, [data]
    while layer:
        level += 1
        layer = [v for d in layer if isinstance(d, (dict, list)) for v in (d.values() if isinstance(d, dict) else d)]
    return level


def from_dict(cls: type[T] | Any, data: Any, what: str = "config") -> T:
    """Plain data (from JSON) as a record of type cls. Strict: no unknown key, no "3" for 3, numbers bounded."""
    try:
        made: T = TypeAdapter(cls).validate_json(json.dumps(data, ensure_ascii=True))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{what}: {explain(error, cls)}") from None
    return made


def from_json(cls: type[T] | Any, text: str | bytes, what: str = "config") -> T:
    """JSON text as a record of type cls; see parse_json and from_dict for what is refused."""
    return from_dict(cls, parse_json(text, what), what)


def replace(value: T, **changes: object) -> T:
    """A copy of the record with some fields changed, validated again; an unknown field is refused with a near match."""
    known = field_names(value)
    for name in changes:
        if name not in known:
            raise ConfigError(f'{type(value).__name__}: unknown key "{name}"; {near(name, known)}')
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]  # every record is a dataclass


def get_path(value: Any, path: str) -> Any:
    """The value at a dotted path: get_path(config, "stages.2.kernel")."""
    before = ""
    for part in path.split("."):
        value = _child(value, part, path, before)
        before += f"{part}."
    return value


def set_path(value: T, path: str, new: object) -> T:
    """A copy with the value at a dotted path changed: set_path(config, "stages.2.kernel", 7)."""
    head, _, rest = path.partition(".")
    child = _child(value, head, path)
    inner = set_path(child, rest, new) if rest else new
    if isinstance(value, tuple):
        i = int(head)
        return (*value[:i], inner, *value[i + 1 :])  # type: ignore[return-value]
    return replace(value, **{head: inner})


def _child(value: Any, part: str, path: str, before: str = "") -> Any:
    if isinstance(value, tuple):
        if not part.isdigit() or int(part) >= len(value):
            raise ConfigError(f'{path}: "{part}" is not an index from 0 to {len(value) - 1}')
        return value[int(part)]
    if not dataclasses.is_dataclass(value):
        raise ConfigError(f'{path}: there is nothing below "{part}"')
    if part not in field_names(value):
        raise ConfigError(f'{path}: unknown key "{part}"; {near_key(value, part, before)}')
    return getattr(value, part)


def parse_value(text: str) -> Any:
    """A command-line value: a Python literal where it is one (lists become tuples), true/false/none, else the text
    itself.
    """
    low = text.strip().lower()
    if low in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(low)
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return tuple(value) if isinstance(value, list) else value


def override(value: T, assignments: Iterable[str]) -> T:
    """Apply "path=value" texts to a record: override(recipe, ["optim.lr=0.1", "epochs=3"]). One value may stand for a
    tuple of one.
    """
    for text in assignments:
        path, sign, raw = text.partition("=")
        if not sign or not path:
            raise ConfigError(f'"{text}": expected key=value')
        new, old = parse_value(raw), get_path(value, path)
        if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
            new = float(new)
        if isinstance(old, str) and not isinstance(new, str):  # "none" is a name in the tables of layers
            new = raw
        if isinstance(old, tuple) and not isinstance(new, tuple):
            new = (new,)
        value = set_path(value, path, new)
    return value


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """ "group_norm(groups=16)" -> ("group_norm", {"groups": 16}). Only literals; nothing is evaluated."""
    try:
        tree = ast.parse("_" + text.strip(), mode="eval").body  # so that a word of Python may be a name: nonlocal
        if isinstance(tree, ast.Name) and tree.id[1:].isidentifier():
            return tree.id[1:], {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            name = tree.func.id[1:]
            named = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg is not None}
            if name.isidentifier() and len(named) == len(tree.keywords):
                return name, named
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise ConfigError(f'"{text[:60]}": expected a name or a call such as group_norm(groups=16)')


def make(table: Mapping[str, Callable[..., T]], text: str, what: str, *args: Any, **named: Any) -> T:
    """Call the maker that a call string names: make(NORMS, "group_norm(groups=8)", "norm", channels)."""
    name, options = parse_call(text)
    maker = pick(table, name, what)
    try:
        return maker(*args, **named, **options)
    except TypeError as error:
        raise ConfigError(f'{what} "{text}": {error}') from None
