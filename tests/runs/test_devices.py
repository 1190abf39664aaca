"""Where training runs when nothing is said, and what is refused."""

import pytest
import torch

from foveate.errors import ConfigError
from foveate.runs.devices import check_device, describe_device


def machine(monkeypatch, *, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(cuda, mps, best, monkeypatch):
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert check_device("auto") == best and check_device("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused_with_what_to_take(monkeypatch):
    machine(monkeypatch, cuda=False, mps=False)
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"--device {name}: .*take --device auto"):
            check_device(name)
    with pytest.raises(ConfigError, match="expected auto, cuda, mps or cpu"):
        check_device("tpu")


def test_a_device_is_described():
    assert describe_device("cpu").startswith("cpu (") and describe_device("mps") == "mps"
