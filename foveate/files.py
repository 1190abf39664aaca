"""Durable writes: everything that must survive a crash goes through here (floor 0, no torch).

A file: temp file in the same folder, write, flush, fsync, rename, fsync of the folder. A folder: the same with a temp
folder beside it.
Named crash points let a test kill the process at any of these steps.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foveate.config import to_json
from foveate.errors import FoveateError, InUseError, WriteError

CRASH_VARIABLE = "FOVEATE_CRASHPOINT"  # "name" or "name:n": SIGKILL at the n-th passing (tests only)
_passed: dict[str, int] = {}
LOCK, OWNER = ".lock", ".owner"  # files of a folder that is held: the kernel's lock, and who has it
GIVEN_UP_S = 60.0  # from which age on a lock in an empty folder is nobody's, where the kernel says so too
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a file system says that has no room
LOOK_S = 0.1  # between two tries while waiting for a lock
BEAT_S = 30.0  # between two signs of life of who holds a folder
DEAD_S = 600.0  # an owner on another host that gave no sign for so long is gone
CHECKPOINTS = ("state", "request.json", "study.db", "compress.json", "trials")  # in a folder that --resume takes


def crashpoint(name: str) -> None:
    """Kill this process here when the environment asks for it; a no-op otherwise. Used by the crash tests."""
    wanted = os.environ.get(CRASH_VARIABLE)
    if not wanted:
        return
    target, _, nth = wanted.partition(":")
    if target == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Systems that can not open a folder (Windows) need no such call."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace a file durably: afterwards it holds all of data, or (after a crash or a full disk) all of what it held
    before.
    """
    path = Path(path)
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        crashpoint("write.before_rename")
        os.replace(temp, path)
        crashpoint("write.after_rename")
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise write_failure(path, len(data), error) from None


def write_failure(path: Path, size_bytes: int, error: OSError) -> WriteError:
    """The one line for a write that did not succeed."""
    full = error.errno in FULL
    hint = f"no space left; {after_full(path)}" if full else (error.strerror or str(error)).lower()
    return WriteError(f"could not write {path} ({size_bytes:,} bytes): {hint}")


def after_full(path: Path) -> str:
    """What to do once there is space: go on where a run folder above holds a checkpoint, else begin again."""
    for folder in list(path.absolute().parents)[:4]:
        if any((folder / name).exists() for name in CHECKPOINTS):
            return f"free some and go on with --resume {folder}"
    return "free some and start again"


def check_writable(folder: str | Path) -> None:
    """WriteError where a folder can not be written, or can not be made. Nothing is left there, no folder either."""
    folder = Path(folder)
    there = folder.absolute()
    missing = []
    while not os.path.lexists(there):
        missing.append(there)
        there = there.parent
    probe = Path(folder) / f".{os.getpid()}.tmp"
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        try:
            with open(probe, "wb") as file:
                file.write(b"\0")
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        hint = f"no space left; {after_full(folder / 'x')}" if error.errno in FULL else (error.strerror or "").lower()
        raise WriteError(f"nothing can be written to {folder}: {hint}; choose another folder") from None
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another process has put something there meanwhile
                path.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Replace a text file durably (UTF-8; file names that are not UTF-8 are written escaped)."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Replace a JSON file durably."""
    write_text(path, to_json(value))


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Replace a whole folder of files durably, so that a reader never sees a mixture of old and new.

    A crash between the two renames leaves `.NAME.old`, which recover_folder puts back.
    """
    path = Path(path)
    temp, old = path.with_name(f".{path.name}.{os.getpid()}.tmp"), path.with_name(f".{path.name}.old")
    shutil.rmtree(temp, ignore_errors=True)
    try:
        temp.mkdir(parents=True)
        for name, data in files.items():
            with open(temp / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            crashpoint("folder.mid_write")
        sync_folder(temp)
        crashpoint("folder.before_rename")
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
            crashpoint("folder.between_renames")
        os.rename(temp, path)
        crashpoint("folder.after_rename")
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temp, ignore_errors=True)
        recover_folder(path)
        raise write_failure(path, sum(map(len, files.values())), error) from None


def recover_folder(path: str | Path) -> None:
    """Undo a half-done write_folder: put the old folder back where the new one never arrived, drop left-over temp
    folders.
    """
    path = Path(path)
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)
    for temp in path.parent.glob(f".{path.name}.*.tmp"):
        shutil.rmtree(temp, ignore_errors=True)


def sweep(folder: str | Path) -> None:
    """Remove the temp files that a killed process left in a folder. Only for whoever holds the folder's lock."""
    for temp in Path(folder).glob(".*.tmp"):
        if temp.is_file():
            temp.unlink()


def read_lines(path: str | Path) -> list[str]:
    """The whole lines of a file; a torn last line is left out."""
    path = Path(path)
    if not path.exists():
        return []
    return path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without the kernel's locks says


@contextlib.contextmanager
def folder_lock(
    folder: str | Path,
    *,
    wait_s: float = 0.0,
    cancelled: Callable[[], bool] = lambda: False,
    notice: Callable[[str], object] = warnings.warn,
) -> Iterator[None]:
    """One process a folder within the block. The kernel drops the lock with its process, so a killed one leaves
    nothing to wait for.

    wait_s: seconds to wait for another holder, unless cancelled() becomes true. Locks need not reach from host to
    host: an owner on another one is believed while its file was touched within DEAD_S, and then taken over with a
    line (notice). Raises InUseError, which names the holder, and WriteError.
    """
    import filelock

    path, note = Path(folder) / LOCK, Path(folder) / OWNER
    # where the file system has no locks, a file that is there or not: a dead holder on this host is taken over as well
    kinds = (filelock.FileLock(path, fallback_to_soft=False), filelock.SoftFileLock(path.with_suffix(".held")))
    for lock in kinds:
        if lock is kinds[-1] and _forsaken(Path(folder), note):  # a file that its host will never remove
            Path(lock.lock_file).unlink(missing_ok=True)
        try:
            lock.acquire(timeout=wait_s, poll_interval=LOOK_S, cancel_check=cancelled)
            break
        except filelock.Timeout:
            raise _in_use(folder, _owner(note)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS or lock is kinds[-1]:
                raise write_failure(path, 0, error) from None
            path.unlink(missing_ok=True)
    try:
        owner = _owner(note)
        if owner is not None and owner["host"] != socket.gethostname():
            silent_s = quiet_s(Path(folder), note)
            if silent_s < DEAD_S:
                raise _in_use(folder, owner, silent_s)
            notice(
                f"{folder} was held by process {owner['pid']} on {owner['host']}, which gave no sign of life for"
                f" {silent_s / 60:.0f} minutes: taken over"
            )
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            try:
                note.write_text(json.dumps(me), "utf-8")
            except OSError as error:
                raise write_failure(note, 0, error) from None
            with beating(note):
                yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        if (
            os.name == "posix" and lock is kinds[0]
        ):  # while it is held: whoever waits for this file finds that it is gone, and makes another
            path.unlink(missing_ok=True)
        lock.release()


def _forsaken(folder: Path, note: Path) -> bool:
    """Whether the owner is on another host and gave no sign of life for DEAD_S."""
    owner = _owner(note)
    return owner is not None and owner["host"] != socket.gethostname() and quiet_s(folder, note) >= DEAD_S


@contextlib.contextmanager
def beating(note: Path) -> Iterator[None]:
    """The file is touched every BEAT_S within the block, by a thread: processes on other hosts see that we live."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the folder may be gone, or read-only since
                os.utime(note)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def quiet_s(folder: Path, note: Path) -> float:
    """Seconds since the owner's last sign of life, by the clock of the file system, which all hosts share.

    0 where it can not be told, so that nobody is taken for dead by mistake.
    """
    probe = folder / f".{os.getpid()}.tmp"
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - note.stat().st_mtime)
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


@contextlib.contextmanager
def claimed(folder: str | Path) -> Iterator[bool]:
    """folder_lock of a folder that is made where it is missing; False within the block where another process has it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder_lock(folder))
            mine = True
        except InUseError:
            mine = False
        yield mine


def _in_use(folder: str | Path, owner: Mapping[str, Any] | None, silent_s: float = 0.0) -> InUseError:
    """The one line for a folder that another process has. silent_s: since its last sign of life, on another host."""
    if owner is None:
        return InUseError(f"{folder} is in use by another process; wait, stop it, or choose another --name")
    text = f"{folder} is in use by process {owner['pid']} on {owner['host']} since {owner['since']}"
    if owner["host"] == socket.gethostname():
        return InUseError(f"{text}; wait, stop it, or choose another --name")
    return InUseError(
        f"{text}, with a sign of life {silent_s:.0f} s ago; wait, or choose another --name: if that process is gone,"
        f" the same command takes over {DEAD_S / 60:.0f} minutes after its last sign (at once if you remove"
        f" {Path(folder) / OWNER})"
    )


def _owner(path: Path) -> Mapping[str, Any] | None:
    """Who wrote that it holds the lock; None where nobody did, or was killed while writing."""
    try:
        data = json.loads(path.read_bytes())
        return {"pid": int(data["pid"]), "host": str(data["host"]), "since": str(data["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def process_start(pid: int) -> str | None:
    """A mark of when a process started (Linux: clock ticks since boot); None where it can not be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _remove_given_up(path: Path) -> None:
    """Remove a folder where nothing is but an old lock that nobody holds: its process was killed before it wrote."""
    with contextlib.suppress(OSError, FoveateError):
        names = set(os.listdir(path))
        # an empty folder, or a lock of this minute, may be that of a process which begins just now
        if LOCK not in names or names - {LOCK, OWNER} or time.time() - (path / LOCK).stat().st_mtime < GIVEN_UP_S:
            return
        with folder_lock(path):
            if set(os.listdir(path)) <= {LOCK, OWNER}:
                shutil.rmtree(path)


def free_name(folder: str | Path, name: str) -> Path:
    """Make and return folder/NAME-1, NAME-2, ...: the first that does not exist. Creation is atomic, so two processes
    get two names. One that holds nothing but the lock of a process that is gone counts as one that does not exist.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(1, 1_000_000):
            path = folder / f"{name}-{i}"
            _remove_given_up(path)
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise write_failure(folder, 0, error) from None
    raise FoveateError(f"{folder}: no free run name left")


# what makes a spreadsheet take a cell for a formula, as itself or after a line end; full-width signs, too
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def cell(text: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula: an apostrophe stands before one that it would."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(text: str) -> str:
    """What cell() was given: the text without the apostrophe that stands before a formula."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
