"""Files of tensors: good ones, and damaged and hostile ones, which the tests make themselves."""

import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import WeightsError
from foveate.zoo.tensors import read_tensors, tensor_bytes


class Shell:
    """Unpickling this runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@functools.cache
def fuzzed(legacy):
    """A small file to change bytes of, made once: torch writes another number into each. None: safetensors."""
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}
    return tensor_bytes(tensors) if legacy is None else torch_bytes(tensors, legacy=legacy)


def torch_bytes(value, *, legacy=False):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def rezipped(data, *, compression=zipfile.ZIP_STORED, change=lambda name, part: part, twice=""):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for part in old.infolist():
            new.writestr(part.filename, change(part.filename, old.read(part)))
        if twice:
            new.writestr(twice, b"")
    return out.getvalue()


def hostile_pickles(command):
    """name -> bytes of .pt files that would run the command, or take much memory, in a careless reader."""
    good, bomb = {"a": torch.arange(4.0)}, {"a": torch.zeros(8_000_000)}
    repeated = {"a": torch.zeros(1).expand(1_000_000)}
    return {
        "plain.pt": pickle.dumps(Shell(command), protocol=2),
        "protocol0.pt": pickle.dumps(Shell(command), protocol=0),
        "in_archive.pt": torch_bytes(Shell(command)),
        "in_list.pt": torch_bytes({"state_dict": {"a": torch.ones(2), "b": [[Shell(command)]]}}),
        "legacy.pt": torch_bytes(Shell(command), legacy=True),
        "legacy_nested.pth": torch_bytes({"a": torch.ones(2), "b": [Shell(command)]}, legacy=True),
        "lying.safetensors": torch_bytes(Shell(command)),
        "lying_plain.safetensors": pickle.dumps(Shell(command), protocol=2),
        "bomb.pt": rezipped(torch_bytes(bomb), compression=zipfile.ZIP_DEFLATED),
        "twice.pt": rezipped(torch_bytes(good), twice="archive/data.pkl2").replace(b"data.pkl2", b"data/0\x00\x00\x00"),
        "seven_zip.pt": b"7z\xbc\xaf\x27\x1c\x00\x04" + torch_bytes(Shell(command)),
        "script_then_zip.pt": b"#!/bin/sh\n" + torch_bytes(good),
        "tar.pt": b"storages".ljust(257, b"\0") + b"ustar\x0000" + bytes(2000),
        "truncated.pt": torch_bytes(bomb)[:20_000],
        "truncated_legacy.pt": torch_bytes(good, legacy=True)[:-7],
        "empty.pt": b"",
        "noise.pt": np.random.default_rng(0).bytes(5000),
        "zip_noise.pt": b"PK\x03\x04" + np.random.default_rng(0).bytes(5000),
        "huge_legacy.pt": torch_bytes(good, legacy=True).replace(b"K\x04", b"\x8a\x05\x00\x00\x00\x00\x01"),
        "huge_shape.pt": rezipped(torch_bytes(good), change=lambda _, p: p.replace(b"K\x04", b"J\xff\xff\xff\x7f")),
        "long_storage.pt": rezipped(torch_bytes(good), change=lambda _, p: p.replace(b"K\x04", b"K\xc8")),
        "repeated.pt": torch_bytes(repeated),
        "not_tensors.pt": torch_bytes({"a": 3}),
        "a_list.pt": torch_bytes([torch.ones(2)]),
        "odd_name.pt": torch_bytes({"../../x": torch.ones(2)}),
        "number_as_name.pt": torch_bytes({7: torch.ones(2)}),
        "sparse.pt": torch_bytes({"a": torch.eye(3).to_sparse()}),
    }


def safetensors_bytes(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(start, stop, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


@functools.cache
def hostile_safetensors():
    good = safetensors_bytes({"a": entry(0, 8)}, bytes(8))
    many = {f"t{i}": entry(0, 0) for i in range(100_000)}
    real = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    twins = b"{" + real + b"," + real.replace(b"F32", b"I32") + b"}"
    return {
        "length_2_63": safetensors_bytes({}, length=2**63),
        "length_past_end": safetensors_bytes({"a": entry(0, 8)}, bytes(8), length=5000),
        "overlap": safetensors_bytes({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        "same_span": safetensors_bytes({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)),
        "hole": safetensors_bytes({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
        "late_start": safetensors_bytes({"a": entry(4, 12)}, bytes(12)),
        "short": good[:-3],
        "trailing": good + b"more",
        "shape_not_size": safetensors_bytes({"a": entry(0, 8, [3])}, bytes(8)),
        "shape_overflow": safetensors_bytes({"a": entry(0, 8, [2**62, 2**62, 2**62])}, bytes(8)),
        "negative": safetensors_bytes({"a": entry(0, 8, [-1, -2])}, bytes(8)),
        "boolean_shape": safetensors_bytes({"a": entry(0, 4, [True])}, bytes(4)),
        "float_shape": safetensors_bytes({"a": entry(0, 8, [2.0])}, bytes(8)),
        "unknown_dtype": safetensors_bytes({"a": entry(0, 8, dtype="OBJECT")}, bytes(8)),
        "extra_key": safetensors_bytes({"a": entry(0, 8) | {"call": "os.system"}}, bytes(8)),
        "twins": safetensors_bytes(twins, bytes(8)),
        "path_name": safetensors_bytes({"../../x": entry(0, 8)}, bytes(8)),
        "root_name": safetensors_bytes({"/etc/x": entry(0, 8)}, bytes(8)),
        "newline_name": safetensors_bytes({"a\nb": entry(0, 8)}, bytes(8)),
        "no_name": safetensors_bytes({"": entry(0, 8)}, bytes(8)),
        "array": safetensors_bytes(b"[]"),
        "not_json": safetensors_bytes(b"{nothing}"),
        "deep": safetensors_bytes(b"[" * 50_000),
        "empty": b"",
        "seven_bytes": b"1234567",
        "hundred_thousand_tensors": safetensors_bytes(many),
    }


def test_the_hostile_files_would_run_their_command_in_a_careless_reader(tmp_path):
    pickle.loads(hostile_pickles(f"touch {tmp_path / 'canary'}")["plain.pt"])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", hostile_pickles("true"))
def test_a_hostile_or_damaged_torch_file_is_refused_in_time_and_runs_nothing(name, tmp_path):
    read_good(tmp_path)
    canary = tmp_path / "canary"
    path = tmp_path / name
    path.write_bytes(hostile_pickles(f"touch {canary}")[name])
    assert refused_cpu_s(path) < 0.1
    assert not canary.exists()


@pytest.mark.parametrize("name", hostile_safetensors())
def test_a_hostile_or_damaged_safetensors_file_is_refused_in_time(name, tmp_path):
    read_good(tmp_path)
    path = tmp_path / "x.safetensors"
    path.write_bytes(hostile_safetensors()[name])
    assert refused_cpu_s(path) < (1.0 if name == "hundred_thousand_tensors" else 0.1)


@pytest.mark.parametrize("name", ["in_archive.pt", "in_list.pt", "legacy.pt", "legacy_nested.pth"])
def test_the_call_that_a_file_asks_for_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(hostile_pickles("true")[name])
    with pytest.raises(WeightsError, match=r"asks for posix\.system"):
        read_tensors(tmp_path / name)


def test_a_header_of_150_megabytes_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 150 * 2**20))
        file.truncate(200 * 2**20)  # sparse: takes no disk
    assert refused_cpu_s(path) < 0.05


def read_good(folder):
    """Read one good file of each kind first, so that imports are not timed."""
    good = {"a": torch.ones(2)}
    (folder / "good.pt").write_bytes(torch_bytes(good))
    (folder / "good.safetensors").write_bytes(tensor_bytes(good))
    for name in ("good.pt", "good.safetensors"):
        assert torch.equal(read_tensors(folder / name)["a"], good["a"])


def refused_cpu_s(path):
    """The least CPU seconds of three tries to read a file; each must raise WeightsError, one line that names it."""
    times = []
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(WeightsError) as caught:
            read_tensors(path)
        times.append(time.process_time() - start)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    return min(times)


WATCHED = """
import sys
from pathlib import Path
from foveate.errors import WeightsError
from foveate.zoo.weights import read_tensors
folder = Path(sys.argv[1])
for good in ("good.pt", "good.safetensors"):
    read_tensors(folder / good)
b"x".decode("cp437")  # zipfile imports this codec when it first needs it
seen = []
bad = ("exec", "compile", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess", "socket")
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith((*bad, "pickle.find_class")) else None)
refused = 0
for path in sorted((folder / "hostile").iterdir()):
    try:
        read_tensors(path)
    except WeightsError:
        refused += 1
found = list(seen)
print(refused, found)
"""


def test_an_audit_hook_sees_no_code_process_or_socket_while_hostile_files_are_read(tmp_path):
    read_good(tmp_path)
    canary, folder = tmp_path / "canary", tmp_path / "hostile"
    folder.mkdir()
    files = hostile_pickles(f"touch {canary}") | {f"{k}.safetensors": v for k, v in hostile_safetensors().items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.strip() == f"{len(files)} []"
    assert not canary.exists()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused_and_nothing_else(data, tmp_path_factory):
    legacy = data.draw(st.sampled_from([None, False, True]))
    blob = bytearray(fuzzed(legacy))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / ("x.safetensors" if legacy is None else "x.pt")
    path.write_bytes(blob)
    try:
        found = read_tensors(path)
    except WeightsError:
        return
    assert all(isinstance(t, torch.Tensor) for t in found.values())


def test_a_fifo_a_folder_and_a_missing_file_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for name in ("pipe.pt", "folder.pt", "missing.pt", "missing.safetensors", "picture.jpg"):
        with pytest.raises(WeightsError, match=name):
            read_tensors(tmp_path / name)


def test_equal_tensors_give_equal_bytes_that_the_library_reads():
    from safetensors.torch import load

    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2).t(), "h": torch.ones(1, dtype=torch.bfloat16)}
    data = tensor_bytes(tensors, {"z": "1", "y": "é", "x": "3"})
    assert {tensor_bytes(tensors, {"x": "3", "y": "é", "z": "1"}) for _ in range(10)} == {data}
    assert all(torch.equal(tensors[k], v) for k, v in load(data).items())
