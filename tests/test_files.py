"""Durable writes: a reader finds all of the old or all of the new, whatever fails and whenever the process dies."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from foveate import files
from foveate.errors import FoveateError, InUseError, WriteError

OLD, NEW = {"a": b"old a", "b": b"old b"}, {"a": b"new a" * 1000, "b": b"new b", "c": b"c"}


class FailsAt:
    """Wraps system calls so that the n-th of all of them fails."""

    def __init__(self, n: int, code: int) -> None:
        self.n, self.code, self.calls = n, code, 0

    def wrap(self, real):
        def call(*args, **named):
            self.calls += 1
            if self.calls == self.n:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **named)

        return call


def failing(monkeypatch, n: int, code: int = errno.ENOSPC) -> FailsAt:
    fails = FailsAt(n, code)
    for name in ("fsync", "replace", "rename", "open", "mkdir"):
        monkeypatch.setattr(os, name, fails.wrap(getattr(os, name)))
    monkeypatch.setattr("builtins.open", fails.wrap(open))
    return fails


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def run(code: str, *arguments, crash: str = "") -> subprocess.CompletedProcess:
    environment = {**os.environ, files.CRASH_VARIABLE: crash}
    command = [sys.executable, "-c", "import sys; from foveate import files\n" + code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_file_is_replaced(tmp_path):
    files.write_bytes(tmp_path / "f", b"one")
    files.write_bytes(tmp_path / "f", b"two")
    assert content(tmp_path) == {"f": b"two"}


def test_a_file_is_old_or_new_whichever_call_fails(tmp_path):
    path = tmp_path / "f"
    for n in range(1, 20):
        path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            fails = failing(patch, n)
            try:
                files.write_bytes(path, b"new")
            except FoveateError as error:
                assert "no space left" in str(error)
                assert str(path) in str(error)
                failed = True
            else:
                failed = False
        assert path.read_bytes() in (b"old", b"new")
        assert names(tmp_path) == ["f"]
        if not failed:
            assert fails.calls < n
            assert path.read_bytes() == b"new"
            return
    raise AssertionError("never succeeded")


def test_a_folder_is_old_or_new_whichever_call_fails(tmp_path):
    path = tmp_path / "best"
    for n in range(1, 60):
        files.write_folder(path, OLD)
        with pytest.MonkeyPatch.context() as patch:
            fails = failing(patch, n, errno.EIO)
            try:
                files.write_folder(path, NEW)
                failed = False
            except FoveateError:
                failed = True
        files.recover_folder(path)
        assert content(path) in (OLD, NEW)
        assert names(tmp_path) == ["best"]
        if not failed and fails.calls < n:
            assert content(path) == NEW
            return
    raise AssertionError("never succeeded")


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
files.write_bytes(sys.argv[1], b"x" * 100_000)
"""
    (tmp_path / "f").write_bytes(b"old")
    done = run(code, tmp_path / "f")
    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert content(tmp_path) == {"f": b"old"}


@pytest.mark.parametrize("point", ["write.before_rename", "write.after_rename"])
def test_a_file_survives_kill_9_at_every_point(tmp_path, point):
    (tmp_path / "f").write_bytes(b"old")
    done = run("files.write_bytes(sys.argv[1], b'new')", tmp_path / "f", crash=point)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_bytes() == (b"old" if point == "write.before_rename" else b"new")


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ("folder.mid_write:1", OLD),
        ("folder.mid_write:2", OLD),
        ("folder.before_rename", OLD),
        ("folder.between_renames", OLD),
        ("folder.after_rename", NEW),
        ("", NEW),
    ],
)
def test_a_folder_survives_kill_9_at_every_point(tmp_path, point, found):
    path = tmp_path / "best"
    files.write_folder(path, OLD)
    code = "files.write_folder(sys.argv[1], {'a': b'new a' * 1000, 'b': b'new b', 'c': b'c'})"
    assert run(code, path, crash=point).returncode == (-signal.SIGKILL if point else 0)
    files.recover_folder(path)
    assert content(path) == found
    assert names(tmp_path) == ["best"]
    files.write_folder(path, NEW)
    assert content(path) == NEW


def test_a_crash_while_recovering_loses_nothing(tmp_path):
    path = tmp_path / "best"
    files.write_folder(path, OLD)
    os.rename(path, tmp_path / ".best.old")  # as a kill between the two renames leaves it
    files.recover_folder(path)
    files.recover_folder(path)
    assert content(path) == OLD


def test_text_with_the_bytes_of_an_odd_file_name_is_written(tmp_path):
    files.write_text(tmp_path / "f", "caf\udce9 é\n")
    assert (tmp_path / "f").read_text("utf-8") == "caf\\udce9 é\n"


def test_json_is_written_exactly(tmp_path):
    files.write_json(tmp_path / "f.json", {"a": [0.1, "é"]})
    assert json.loads((tmp_path / "f.json").read_bytes()) == {"a": [0.1, "é"]}


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path):
    with pytest.raises(WriteError, match="could not write"):
        files.write_bytes(tmp_path / "no" / "such" / "f", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="could not write"):
        files.write_folder(tmp_path / "file" / "best", NEW)


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert files.read_lines(path) == []
    path.write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert files.read_lines(path) == ['{"epoch": 1}', '{"epoch": 2}']


def test_a_second_process_is_refused_and_the_owner_named(tmp_path):
    code = "import time\nwith files.folder_lock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", "import sys; from foveate import files\n" + code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            with (
                pytest.raises(InUseError, match=f"in use by process {holder.pid} on .* since 2"),
                files.folder_lock(tmp_path),
            ):
                pass
        finally:
            holder.communicate("", timeout=30)
    with files.folder_lock(tmp_path):
        pass
    assert names(tmp_path) == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path):
    code = "import os, signal\nwith files.folder_lock(sys.argv[1]):\n    os.kill(os.getpid(), signal.SIGKILL)"
    assert run(code, tmp_path).returncode == -signal.SIGKILL
    assert names(tmp_path) == [".lock", ".owner"]
    with files.folder_lock(tmp_path):
        owner = json.loads((tmp_path / ".owner").read_bytes())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert names(tmp_path) == []


def test_of_processes_that_race_for_a_dead_owners_lock_one_at_a_time_has_it(tmp_path):
    """Each takes the lock many times, as claimed() does; a file that two make at once would show it."""
    (tmp_path / ".lock").touch()
    (tmp_path / ".owner").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "since": "long ago"}))
    code = """
import os
from pathlib import Path
held, inside = 0, Path(sys.argv[1]) / "inside"
while held < 200:
    with files.claimed(sys.argv[1]) as mine:
        if mine:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            inside.unlink()
            held += 1
"""
    command = [sys.executable, "-c", "import sys; from foveate import files\n" + code, str(tmp_path)]
    racing = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120)[1] for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], said
    assert names(tmp_path) == []


def test_a_second_holder_waits_as_long_as_it_is_told_and_no_longer(tmp_path):
    with files.folder_lock(tmp_path):
        looks = []
        with (
            pytest.raises(InUseError),
            files.folder_lock(tmp_path, wait_s=300, cancelled=lambda: len(looks) == 3 or looks.append(1)),
        ):
            pass
        assert len(looks) == 3
    code = "import time\nwith files.folder_lock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", "import sys; from foveate import files\n" + code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"

        def go_on():
            holder.stdin.close()  # only now, while this process waits, the other one ends
            return False

        with files.folder_lock(tmp_path, wait_s=200, cancelled=go_on):
            assert json.loads((tmp_path / ".owner").read_bytes())["pid"] == os.getpid()


def test_a_process_that_holds_nothing_claims_nothing(tmp_path):
    with files.claimed(tmp_path / "t") as mine, files.claimed(tmp_path / "t") as other:
        assert mine
        assert not other
    with files.claimed(tmp_path / "t") as mine:
        assert mine


def test_an_owner_that_holds_no_lock_is_gone_even_if_its_number_is_in_use_again(tmp_path):
    owner = {"pid": os.getppid(), "host": socket.gethostname(), "since": "long ago"}
    (tmp_path / ".owner").write_text(json.dumps(owner))
    with files.folder_lock(tmp_path):
        pass


def test_the_lock_of_another_host_is_respected(tmp_path):
    """The kernel's locks need not reach from one host to the other."""
    (tmp_path / ".owner").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-02 03:04:05"}))
    said = "process 1 on elsewhere since 2026-01-02 03:04:05.*remove .*owner"
    for _ in range(2):
        with pytest.raises(InUseError, match=said), files.folder_lock(tmp_path):
            pass
    assert names(tmp_path) == [".owner"]


def test_an_owner_of_another_host_that_gives_no_sign_of_life_is_taken_over(tmp_path):
    owner = tmp_path / ".owner"
    text = json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-02 03:04:05"})
    owner.write_text(text)
    seen = owner.stat().st_mtime
    os.utime(owner, (seen, seen - files.DEAD_S / 2))
    with pytest.raises(InUseError, match="same command takes over 10 minutes after"), files.folder_lock(tmp_path):
        pass
    os.utime(owner, (seen, seen - 2 * files.DEAD_S))
    said = []
    with files.folder_lock(tmp_path, notice=said.append):
        assert json.loads(owner.read_bytes())["pid"] == os.getpid()
    assert len(said) == 1 and "process 1 on elsewhere, which gave no sign of life for 20 minutes: taken over" in said[0]
    owner.write_text(text)
    os.utime(owner, (seen + 7200, seen + 7200))  # a clock that went back: nobody is dead by it
    with pytest.raises(InUseError), files.folder_lock(tmp_path):
        pass


def test_who_holds_a_folder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BEAT_S", 0.01)
    with files.folder_lock(tmp_path):
        owner = tmp_path / ".owner"
        os.utime(owner, (1.0, 1.0))
        for _ in range(1000):
            if owner.stat().st_mtime > 1.0:
                break
            time.sleep(0.01)
        assert owner.stat().st_mtime > 1.0
    assert names(tmp_path) == []


def test_a_folder_is_tested_for_writing_and_nothing_is_left(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    files.check_writable(tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(WriteError, match=f"nothing can be written to {path}: not a directory"):
            files.check_writable(path)


@pytest.mark.parametrize(
    ("there", "says"),
    [("", "free some and start again"), ("state", "go on with --resume"), ("study.db", "go on with --resume")],
)
def test_a_full_disk_says_resume_only_where_there_is_a_checkpoint(tmp_path, there, says):
    run = tmp_path / "runs" / "photos-1"
    (run / "best").mkdir(parents=True)
    if there:
        (run / there).mkdir()
    error = files.write_failure(run / "best" / "model.onnx", 9, OSError(errno.ENOSPC, "full"))
    assert says in str(error) and (not there or str(run) in str(error))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_note_torn_by_a_crash_holds_nobody_up(tmp_path, text):
    (tmp_path / ".owner").write_text(text)
    with files.folder_lock(tmp_path):
        (tmp_path / ".owner").write_text(text)
        with pytest.raises(InUseError, match="in use by another process"), files.folder_lock(tmp_path):
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_has_one_process_a_folder_too(tmp_path, monkeypatch, code):
    import fcntl

    def without(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", without)
    said = pytest.raises(InUseError, match=f"in use by process {os.getpid()} on")
    with files.folder_lock(tmp_path), said, files.folder_lock(tmp_path):
        pass
    assert names(tmp_path) == []
    with files.folder_lock(tmp_path):
        pass


def test_a_dead_holder_is_taken_over_where_there_are_no_locks(tmp_path, monkeypatch):
    import fcntl

    code = f"""
import errno, fcntl, os
from foveate import files
def without(*_):
    raise OSError(errno.ENOLCK, "none")
fcntl.flock = without
with files.folder_lock({str(tmp_path)!r}):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(names(tmp_path)) >= 2
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "none")))
    with files.folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_can_only_be_read_is_one_line(tmp_path, monkeypatch, code):
    plain = os.open

    def read_only(path, flags, *rest, **named):
        if flags & os.O_CREAT and str(path).endswith(".lock"):
            raise OSError(code, os.strerror(code), path)
        return plain(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", read_only)
    with (
        pytest.raises(WriteError, match=f"could not write .*: {os.strerror(code).lower()}"),
        files.folder_lock(tmp_path),
    ):
        pass
    monkeypatch.undo()
    with files.folder_lock(tmp_path):
        pass


def test_the_lock_is_released_when_the_work_fails(tmp_path):
    with pytest.raises(KeyError), files.folder_lock(tmp_path):
        raise KeyError
    assert names(tmp_path) == []


def test_run_names_are_never_given_twice(tmp_path):
    assert files.free_name(tmp_path / "runs", "digits").name == "digits-1"
    assert files.free_name(tmp_path / "runs", "digits").name == "digits-2"
    code = "print(*[files.free_name(sys.argv[1], 'x').name for _ in range(50)])"
    command = [sys.executable, "-c", "import sys; from foveate import files\n" + code, str(tmp_path / "runs")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    given = [name for process in both for name in process.communicate(timeout=60)[0].split()]
    assert sorted(given) == sorted(f"x-{i}" for i in range(1, 101))


@pytest.mark.parametrize(
    ("left", "age_s", "name"),
    [
        ({".lock": ""}, 3600, "digits-1"),
        ({".lock": "", ".owner": ""}, 3600, "digits-1"),
        ({".lock": ""}, 0, "digits-2"),  # perhaps of a process that begins just now
        ({}, 3600, "digits-2"),
        ({".lock": "", "recipe.json": "{}"}, 3600, "digits-2"),
        ({".lock": "", ".hidden": ""}, 3600, "digits-2"),
    ],
)
def test_a_folder_with_nothing_but_an_old_lock_is_free(tmp_path, left, age_s, name):
    old = tmp_path / "digits-1"
    old.mkdir()
    for file, text in left.items():
        (old / file).write_text(text)
        os.utime(old / file, (time.time() - age_s,) * 2)
    assert files.free_name(tmp_path, "digits").name == name
    assert names(tmp_path / name) == [] and names(tmp_path)[-1] == name


def test_a_folder_with_nothing_but_a_lock_that_is_held_is_not_free(tmp_path):
    old = tmp_path / "digits-1"
    old.mkdir()
    with files.folder_lock(old):
        os.utime(old / ".lock", (0, 0))
        assert files.free_name(tmp_path, "digits").name == "digits-2"
        assert names(old) == [".lock", ".owner"]


def test_no_free_name_where_nothing_can_be_made(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(WriteError, match="could not write"):
        files.free_name(tmp_path / "runs", "digits")
