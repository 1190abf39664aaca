"""Freed memory stays with the process while it trains, and goes back afterwards."""

import subprocess
import sys

from foveate.train import allocator

CODE = """
import resource, torch
from foveate.train.allocator import memory_kept

def faults(block):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def step():
    parts = [torch.ones(8 * 2**20) for _ in range(4)]  # 128 MiB

step()
usual = faults(step)
with memory_kept():
    for _ in range(8):  # until blocks lie where aligned ones fit
        step()
    kept, held = faults(step), resident()
left, after = resident(), faults(step)
print(usual, kept, after, held - left)
"""


def test_no_page_is_asked_for_twice_and_all_goes_back():
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=120)
    usual, kept, after, returned = map(int, done.stdout.split())
    assert kept < 0.02 * usual and after > 0.5 * usual
    assert returned > 100 * 2**20


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # would fail if it were asked
    with allocator.memory_kept():
        pass
