"""foveate.toml: the settings of a project, which every command reads from the current folder. Options win over it."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.cli.options.output import Visible
from foveate.errors import ConfigError, printable

NAME = "foveate.toml"
VARIABLE = "FOVEATE_PROJECT"  # another file; empty: none
MAX_BYTES = 2**20
# keys at the top, for every command that has them
SHARED = ("data", "seed", "weights", "device", "threads", "runs", "bad_files", "follow_links")
BUDGET = ("max_latency", "max_size", "max_macs", "max_memory", "runtime", "time")  # of [budget]
BUDGETED = ("fit", "search")  # the commands that [budget] speaks to
CODE = (".py",)  # what a value may not name: code is named on the command line

TEMPLATE = """\
# The settings of this project. Every foveate command reads this file from the folder that it is started in.
# Options on the command line win; foveate --no-project leaves the file out.

# The pictures: a folder of class folders (or train/ val/ test/), a CSV path,label, or "digits" or "clothes" (built in).
data = {data}

# Split, initial weights, order and augmentation follow from it.
seed = 0

# What training starts from: "auto" (published weights on this machine), "none", "hub", "lite", a file or a folder.
weights = "auto"

# Where it is trained ("auto", "cpu", "cuda", "mps"), and where runs are written.
# device = "auto"
# runs = "runs"

# What the classifier may cost. foveate fit and foveate search keep to it.
[budget]
time = "10m"             # for everything: 90s, 10m, 1h30m
# max_latency = "5ms"    # median of one picture on this machine
# max_size = "5MB"       # of the exported file
# max_macs = "300M"      # multiply-adds of one picture

# Any option of one command, by its long name with _ for -:
# [fit]
# metric = "balanced"
# [train]
# recipe = "baseline"
# epochs = 20
"""


def project_file() -> Path | None:
    """The file that counts here: that of FOVEATE_PROJECT, else foveate.toml in the current folder; None for none."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return Path(NAME) if Path(NAME).is_file() else None


def read_project(path: Path) -> dict[str, Any]:
    """The file as plain data. ConfigError where it can not be read or is no TOML."""
    import tomllib

    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}; foveate new NAME writes one") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: over {MAX_BYTES:,} bytes; expected a few lines of settings")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML ({' '.join(str(error).split())[:120]})") from None


def defaults_of(found: Mapping[str, Any], path: Path, commands: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Command -> parameter -> value, as the file has them. ConfigError for a key that there is not, with a near one.

    commands: name -> click command. A command of a group goes by both names: "data check".
    """
    parameters = {name: {p.name: p for p in command.params} for name, command in commands.items()}
    tables = {"budget": BUDGET, **{name: tuple(known) for name, known in parameters.items()}}
    for key, value in found.items():
        if isinstance(value, dict):
            refuse_unknown(path, f"[{key}]", key, tables)
            for inner, setting in value.items():
                refuse_unknown(path, f"[{key}] {inner}", inner, tables[key])
                refuse_value(path, f"[{key}] {inner}", setting)
        else:
            refuse_unknown(path, key, key, (*SHARED, *(f"[{t}]" for t in tables)))
            refuse_value(path, key, value)
    out: dict[str, dict[str, Any]] = {}
    for name, known in parameters.items():
        own = {key: found[key] for key in SHARED if key in found and reads(name, key, known)}
        if name in BUDGETED:
            own |= {key: value for key, value in found.get("budget", {}).items() if key in known}
        own |= found.get(name, {})
        if own:
            out[name] = own
    return out


def reads(command: str, key: str, known: Mapping[str, Any]) -> bool:
    """Whether a command takes a shared key. --data of export asks for more than export does by itself: not by file."""
    if key not in known or (key == "threads" and command.startswith("data")):
        return False
    return key != "data" or known[key].param_type_name == "argument"


def refuse_unknown(path: Path, what: str, key: str, known: Iterable[str]) -> None:
    """ConfigError with the nearest known key."""
    import difflib

    names = tuple(known)
    if key in names:
        return
    alike = difflib.get_close_matches(key, names, 1, 0.6)
    hint = f"did you mean {alike[0]}?" if alike else f"expected one of {', '.join(names[:12])}"
    raise ConfigError(f"{path}: {what}: there is no such setting; {hint}")


def refuse_value(path: Path, what: str, value: object) -> None:
    """ConfigError for what no option can be, and for code."""
    plain = value if isinstance(value, list) else [value]
    if not all(isinstance(v, (str, int, float, bool)) for v in plain):
        raise ConfigError(f"{path}: {what}: expected a text, a number, true, false, or a list of texts")
    if any(isinstance(v, str) and v.lower().endswith(CODE) for v in plain):
        raise ConfigError(f"{path}: {what} = {value}: a file of settings names no code; name it on the command line")


def apply_project(context: Any, *, ignore: bool, arguments: Iterable[str]) -> None:
    """Give the running command the defaults of foveate.toml, and say so on stderr. A run that is resumed takes none."""
    said = [word.partition("=")[0] for word in arguments]
    path = None if ignore or "--resume" in said or context.invoked_subcommand == "new" else project_file()
    if path is None:
        return
    commands: dict[str, Any] = {}
    for name, command in context.command.commands.items():
        inner = getattr(command, "commands", None)
        commands |= {name: command} if inner is None else {f"{name} {n}": c for n, c in inner.items()}
    found = defaults_of(read_project(path), path, commands)
    nested: dict[str, Any] = {}
    for name, values in found.items():
        first, _, second = name.partition(" ")
        if second:
            nested.setdefault(first, {})[second] = values
        else:
            nested[first] = values
    context.default_map = nested
    chosen = context.invoked_subcommand
    words = list(arguments)
    after = words[words.index(chosen) + 1 :] if chosen in words else []
    told = found.get(chosen) or found.get(f"{chosen} {after[0]}" if after else "")
    if told:
        stream = sys.stderr.stream if isinstance(sys.stderr, Visible) else sys.stderr
        text = ", ".join(f"{key} = {value}" for key, value in told.items())
        print(printable(f"{path}: {text}"), file=stream, flush=True)


def next_three(folder: Path) -> list[str]:
    """The three next things to do, by what is in the folder: a project, runs, or nothing."""
    runs = sorted((p.parent for p in folder.glob("runs/*/best")), key=lambda p: p.stat().st_mtime)
    if runs:
        run = printable(str(runs[-1]))
        steps = [
            (f"foveate predict {run} PICTURE", "ask the newest model"),
            (f"foveate export {run} --to best", "measure the runtimes here, and keep the fastest file"),
            (f"open {run}/report.html", "read how good it is, and what to do next"),
        ]
    elif project_file() is not None:
        steps = [
            ("foveate data check DIR", "look for damaged and double pictures first"),
            ("foveate fit", f"find and train the best classifier, as {NAME} says"),
            ("foveate doctor", "see what this machine has"),
        ]
    else:
        steps = [
            ("foveate fit digits --time 2m", "try it on built-in pictures, without a network"),
            ("foveate fit PHOTOS", "a folder with one folder of pictures a class"),
            ("foveate new NAME", f"begin a project: a {NAME} with data, budget and seed"),
        ]
    wide = max(len(do) for do, _ in steps)
    lines = [f"{'next' if i == 0 else '':<6}{do:<{wide}}   {why}" for i, (do, why) in enumerate(steps)]
    return [*lines, "", "foveate --help lists the commands"]
