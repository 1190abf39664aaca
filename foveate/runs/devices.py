"""Where training runs: CUDA, then MPS where torch has it, then the CPU."""

from typing import Literal, cast

from foveate.errors import ConfigError

Device = Literal["cpu", "cuda", "mps"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def check_device(asked: str) -> Device:
    """The device that is asked for; "auto": the best that torch can use. ConfigError where torch can not use it."""
    import torch

    able = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return cast(Device, next(name for name, there in able.items() if there))
    if asked not in able:
        raise ConfigError(f'--device "{asked}": expected auto, cuda, mps or cpu')
    if not able[asked]:
        name = {"cuda": "CUDA", "mps": "MPS"}[asked]
        raise ConfigError(f"--device {asked}: this machine has no {name} device that torch can use; take --device auto")
    return cast(Device, asked)


def describe_device(device: Device) -> str:
    """The device as people know it: "cuda (NVIDIA H200)", "cpu (4 threads)"."""
    import torch

    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name(0)})"
    if device == "cpu":
        return f"cpu ({torch.get_num_threads()} thread{'s' if torch.get_num_threads() != 1 else ''})"
    return device
