"""Durable writes: everything that must survive a crash goes through here (floor 0, no torch).

A file: temp file in the same folder, write, flush, fsync, rename, fsync of the folder. A folder: the same with a temp
folder beside it.
Named crash points let a test kill the process at any of these steps.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foveate.config import to_json
from foveate.errors import FoveateError

CRASH_VARIABLE = "FOVEATE_CRASHPOINT"  # "name" or "name:n": SIGKILL at the n-th passing (tests only)
_passed: dict[str, int] = {}


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


def write_failure(path: Path, size_bytes: int, error: OSError) -> FoveateError:
    """The one line for a write that did not succeed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "no space left; free some and resume" if full else (error.strerror or str(error)).lower()
    return FoveateError(f"could not write {path} ({size_bytes:,} bytes): {hint}")


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


@contextlib.contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """One process a folder. A second one is refused; a lock whose process is gone is taken over.

    The lock names pid, host and start time of the process, so a reused pid is not taken for the old one.
    """
    path = Path(folder) / ".lock"
    me = {"pid": os.getpid(), "host": socket.gethostname(), "started": process_start(os.getpid())}
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            seen, owner = _identity(path), _owner(path)
            if _alive(owner):
                who = f"process {owner['pid']} on {owner['host']}"
                raise FoveateError(f"{folder} is in use by {who}; wait, stop it, or choose another --name") from None
            _remove_stale(path, seen)
        except OSError as error:
            raise write_failure(path, 0, error) from None
    else:
        raise FoveateError(f"{folder}: could not take the lock {path}")
    try:
        os.write(descriptor, json.dumps(me).encode())
        os.close(descriptor)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from a later one of the same name."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return info.st_ino, info.st_mtime_ns


def _remove_stale(path: Path, seen: tuple[int, int] | None) -> None:
    """Remove a lock that was judged stale, unless another process has done so and taken its own since.

    Those who take over do it one after the other, by the kernel's lock on the folder where there is one.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        path.unlink(missing_ok=True)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network drive without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        if seen is not None and _identity(path) == seen:
            path.unlink(missing_ok=True)
    finally:
        os.close(folder)


def _owner(path: Path) -> dict[str, Any]:
    """Who holds the lock; one that is still being written gets a second; unreadable after that, it is nobody's."""
    for _ in range(10):
        try:
            data = json.loads(path.read_bytes())
            return {"pid": int(data["pid"]), "host": str(data["host"]), "started": data["started"]}
        except FileNotFoundError:
            return {"pid": -1, "host": socket.gethostname(), "started": None}
        except (ValueError, KeyError, TypeError):
            time.sleep(0.1)
    # killed between creating the file and writing into it
    return {"pid": -1, "host": socket.gethostname(), "started": None}


def _alive(owner: Mapping[str, Any]) -> bool:
    """Whether the process that wrote the lock still runs. On another host nobody can tell: it counts as alive."""
    if owner["host"] != socket.gethostname():
        return True
    if owner["pid"] <= 0:
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return owner["started"] is None or owner["started"] == process_start(owner["pid"])


def process_start(pid: int) -> str | None:
    """A mark of when a process started (Linux: clock ticks since boot); None where it can not be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def free_name(folder: str | Path, name: str) -> Path:
    """Make and return folder/NAME-1, NAME-2, ...: the first that does not exist. Creation is atomic, so two processes
    get two names.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(1, 1_000_000):
            path = folder / f"{name}-{i}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise write_failure(folder, 0, error) from None
    raise FoveateError(f"{folder}: no free run name left")
