"""foveate.deploy.processor: whether int8 sums are exact here, and what a file says of it."""

import subprocess
import sys

import pytest

from foveate.deploy import processor
from foveate.deploy.processor import HOLDS, KEY, sums_bytes_whole, warn_of


@pytest.mark.parametrize(
    ("machine", "system", "flags", "exact"),
    [
        ("x86_64", "Linux", "fma avx2 avx512f avx512_vnni", True),
        ("AMD64", "Linux", "fma avx2 avx_vnni", True),
        ("x86_64", "Linux", "fma avx2 avx512f avx512_vnni_of_another_kind", False),
        ("x86_64", "Linux", "fma avx2", False),
        ("x86_64", "Linux", None, False),  # no such file
        ("AMD64", "Windows", "fma avx2 avx512_vnni", False),  # not told there
        ("aarch64", "Linux", "asimd", True),
        ("arm64", "Darwin", None, True),
        ("riscv64", "Linux", "rv64", False),
    ],
)
def test_it_is_told_by_the_system_and_is_no_where_nothing_is_told(monkeypatch, tmp_path, machine, system, flags, exact):
    told = tmp_path / "cpuinfo"
    if flags is not None:
        told.write_text(f"processor\t: 0\nmodel name\t: avx_vnni of a kind\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(processor, "CPUINFO", told)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor.platform, "system", lambda: system)
    assert sums_bytes_whole.__wrapped__() is exact


@pytest.mark.parametrize(("says", "exact"), [("1", True), ("0", False), ("", False)])
def test_a_mac_is_asked(monkeypatch, says, exact):
    monkeypatch.setattr(processor, "MAC", (sys.executable, "-c", f"print({says!r})"))
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor.platform, "system", lambda: "Darwin")
    assert sums_bytes_whole.__wrapped__() is exact
    monkeypatch.setattr(processor, "MAC", ("no-such-command",))
    assert sums_bytes_whole.__wrapped__() is False


INT8 = {"precision": "int8"}


@pytest.mark.parametrize(
    ("metadata", "here", "warned"),
    [
        (INT8 | {KEY: HOLDS[8]}, False, True),
        (INT8 | {KEY: HOLDS[8]}, True, False),
        (INT8 | {KEY: HOLDS[7]}, False, False),
        (INT8, False, True),  # an older file
        ({"precision": "fp32"}, False, False),
        ({}, False, False),
    ],
)
def test_a_file_that_does_not_hold_here_is_warned_of(monkeypatch, recwarn, metadata, here, warned):
    monkeypatch.setattr(processor, "sums_bytes_whole", lambda: here)
    warn_of(metadata, "m.onnx")
    assert len(recwarn) == warned
    assert all("m.onnx: int8 weights of 8 bits" in str(w.message) for w in recwarn)


def test_it_needs_no_torch():
    code = (
        "import sys; from foveate.deploy import processor; processor.sums_bytes_whole(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
