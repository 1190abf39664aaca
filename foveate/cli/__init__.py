"""The command line: one sub-command a file. torch is imported inside a command, never at start."""

import codecs
import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TextIO

import typer

from foveate.cli import (
    ablate,
    analyse,
    classic,
    compress,
    data,
    deploy,
    doctor,
    explain,
    export,
    fit,
    fuse,
    models,
    new,
    predict,
    profile,
    reproduce,
    scale,
    search,
    serve,
    train,
)
from foveate.cli import eval as evaluate
from foveate.cli.completion import Install, Show, prepare_completion
from foveate.cli.options.declare import Command
from foveate.cli.options.output import Debug, Visible
from foveate.cli.project import apply_project, next_three
from foveate.errors import ConfigError, FoveateError, Terminated, printable

EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TERMINATED = 130, 141, 143  # what a shell reports for SIGINT, SIGPIPE and SIGTERM
AGAIN_S = 0.05  # after which a signal that got lost is sent once more

# typer brings a click of its own (older ones import click): this is the class of every usage error in both
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Turns a folder of images into the best classifier that fits your device.",
    epilog="--plugin A,B runs the code of packages A and B, which add layers, models, recipes (docs/plugins.md)."
    "\n\nExample: foveate fit photos --max-latency 5ms",
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich costs a third of the start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PLUGIN = "--plugin"
COMMANDS = {
    "fit": fit,
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "models": models,
    "profile": profile,
    "export": export,
    "explain": explain,
    "doctor": doctor,
    "compress": compress,
    "classic": classic,
    "fuse": fuse,
    "scale": scale,
    "search": search,
    "ablate": ablate,
    "analyse": analyse,
    "reproduce": reproduce,
    "serve": serve,
    "new": new,
}
for _name, _module in COMMANDS.items():
    app.command(_name, cls=Command, epilog=_module.EXAMPLE)(_module.command)
app.add_typer(data.app, name="data")
app.add_typer(deploy.app, name="deploy")


def _version(wanted: bool) -> None:
    if wanted:
        from foveate import __version__

        print(f"foveate {__version__}")
        raise typer.Exit


def _help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        print(context.get_help())
        raise typer.Exit


# our own, for typer's has no default, and to check that it loads pydantic for the help of every sub-command
Help = Annotated[bool, typer.Option("-h", "--help", callback=_help, is_eager=True, help="Show this message and exit.")]
Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")]


NoProject = Annotated[
    bool, typer.Option("--no-project", is_eager=True, help="Leave out the foveate.toml of this folder.")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    no_project: NoProject = False,
    version: Version = False,
    show_completion: Show = False,
    install_completion: Install = False,
    debug: Debug = False,
    help_: Help = False,
) -> None:
    """Turns a folder of images into the best classifier that fits your device."""
    if context.invoked_subcommand is None:
        print("\n".join(next_three(Path())))
        return
    words = context.obj["arguments"] if isinstance(context.obj, dict) else []
    if not {"-h", "--help"} & set(words):
        apply_project(context, ignore=no_project, arguments=words)
    if not {"-h", "--help"} & set(words) and isinstance(context.obj, dict):
        load_plugins(context.obj["plugins"])


def take_plugins(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(packages that --plugin names, the other words), wherever it stands on the line, up to a "--".

    It is no option of typer's: a text among those of all commands would load pydantic for every help.
    """
    names, rest, words = list[str](), list[str](), iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == PLUGIN:
            if (value := next(words, "")) in ("", "--") or value.startswith("-"):
                raise ConfigError(f"{PLUGIN}: expected the names of packages: {PLUGIN} A,B")
            names += [name for name in value.split(",") if name]
        elif word.startswith(f"{PLUGIN}="):
            names += [name for name in word.removeprefix(f"{PLUGIN}=").split(",") if name]
        else:
            rest.append(word)
    return names, rest


def load_plugins(names: Sequence[str]) -> None:
    """Load what --plugin names; worker processes of this command load the same."""
    if not names:
        return
    from foveate.runs.plugin import ENVIRONMENT, load_plugin

    for name in names:
        load_plugin(name)
    os.environ[ENVIRONMENT] = ",".join(names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A failure is one line on stderr, with --debug the traceback too."""
    _make_streams_forgiving()
    if "torch" not in sys.modules:  # threads that sleep while they wait: on a busy machine a step of two threads that
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spin takes up to 15 times as long (docs/benchmarks.md)
    # --debug writes here, wherever it stands on the line
    settings: dict[str, Any] = {"debug": False, "arguments": list(sys.argv[1:] if arguments is None else arguments)}
    prepare_completion()
    with (
        _signals_as_exceptions(),
        contextlib.redirect_stdout(Visible(sys.stdout)),
        contextlib.redirect_stderr(Visible(sys.stderr)),
        warnings.catch_warnings(),
    ):
        if not sys.warnoptions:  # other packages' advice to programmers; -W or PYTHONWARNINGS brings it back
            warnings.simplefilter("ignore")
        try:
            code = _run(arguments, settings)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader went away, as `| head` does: nothing to say and nobody to say it to
            _discard(sys.stdout)
            return EXIT_PIPE
        except OSError as error:  # a full disk behind `> file`
            _discard(sys.stdout)
            _say(_system_line(error))
            return 1
    return code


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM raises Terminated within the block, as Ctrl-C raises KeyboardInterrupt: what is half-made is removed, and
    a line says so. A second SIGTERM ends the process at once.

    Either may arrive while Python runs a callback that can raise nothing (a destructor, say): it is sent once more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came, later = set[int](), list[threading.Timer]()

    def obey(number: int, _: FrameType | None) -> None:
        if number in came:
            os._exit(128 + number)
        came.add(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def again(event: Any) -> None:
        if not isinstance(event.exc_value, KeyboardInterrupt | Terminated):
            hook(event)
            return
        number = signal.SIGINT if isinstance(event.exc_value, KeyboardInterrupt) else signal.SIGTERM
        if number in came:
            came.remove(number)
            later.append(threading.Timer(AGAIN_S, os.kill, (os.getpid(), number)))  # when the callback is over
            later[-1].daemon = True
            later[-1].start()

    hook, before = sys.unraisablehook, {signal.SIGTERM: signal.signal(signal.SIGTERM, obey)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as behind nohup
        before[signal.SIGINT] = signal.signal(signal.SIGINT, obey)
    sys.unraisablehook = again
    try:
        yield
    finally:
        for timer in later:
            timer.cancel()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: Sequence[str] | None, settings: dict[str, Any]) -> int:
    """Call the command and turn whatever it raises into a line and an exit code."""
    try:
        settings["plugins"], words = take_plugins(settings["arguments"])
        width = max(20, shutil.get_terminal_size().columns - 2)  # by itself the help is from 50 to 78 wide
        result = app(args=words, prog_name="foveate", standalone_mode=False, obj=settings, terminal_width=width)
        if result == EXIT_INTERRUPTED:  # newer typer swallows KeyboardInterrupt
            _say("interrupted")
        return result if isinstance(result, int) else 0
    except UsageError as error:
        _say(_usage_line(error))
        return 2
    except FoveateError as error:
        caught: BaseException = error
        message, code = f"error: {_one_line(str(error))}", error.exit_code
    except (KeyboardInterrupt, typer.Abort) as error:
        caught, message, code = error, "interrupted", EXIT_INTERRUPTED
    except Terminated as error:
        caught, message, code = error, "terminated", EXIT_TERMINATED
    except BrokenPipeError:
        raise
    except SystemExit as error:  # typer's own answer to a broken pipe
        return EXIT_PIPE if error.code == 1 else int(error.code or 0)
    except OSError as error:
        caught, message, code = error, _system_line(error), 1
    except Exception as error:
        caught = error
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        text = _one_line(f"{type(error).__name__}: {error}")
        message, code = f"internal error: {text[:300]} ({where}); run it again with --debug for the traceback", 1
    if settings["debug"]:
        traceback.print_exception(caught)
    _say(message)
    return code


def _system_line(error: OSError) -> str:
    """What the system refused, and where."""
    what = _one_line(error.strerror or str(error)).lower()
    return f"error: {_one_line(str(error.filename))}: {what}" if error.filename else f"error: {what}"


def _usage_line(error: Any) -> str:
    """What is wrong with the command line, and where its help is."""
    text = error.format_message().strip()
    if "\n" in text:  # a group without a command answers with its whole help
        return str(text)
    text = (text[0].lower() + text[1:].rstrip(".")).replace("Value error, ", "")
    path = error.ctx.command_path if error.ctx else "foveate"
    return f"error: {_one_line(text)} (see {path} --help)"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _say(line: str) -> None:
    """One line to stderr; a stderr that is gone must not hide the exit code."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _discard(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that Python's own flush at exit stays quiet."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


PLAIN = {"·": "|", "—": "-", "–": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "×": "x", "±": "+-"}


def _ascii_fallback(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream gets for characters that it can not show: a name's own bytes, a sign in ASCII, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    out = b""
    for char in error.object[error.start : error.end]:
        raw = 0xDC80 <= ord(char) <= 0xDCFF  # how Python carries the bytes of a file name that is not UTF-8
        out += bytes([ord(char) - 0xDC00]) if raw else PLAIN.get(char, char).encode("ascii", "backslashreplace")
    return out, error.end


def _make_streams_forgiving() -> None:
    """Closed streams become silent, and no character can stop the output (ASCII locale, odd file names)."""
    codecs.register_error("foveate", _ascii_fallback)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # lives as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="foveate")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # lists of file names
