"""Named tensors in files: safetensors, and PyTorch's own format. Damaged and hostile files raise WeightsError.

The checks here come before the library that reads the file. They are about size and ambiguity: a small file may not ask
for much memory or time, and no file may mean two things. That no code runs is the doing of the format (safetensors)
and of our own reader of PyTorch's files (checkpoint_file.py), which calls nothing; there is no other mode.
"""

import hashlib
import io
import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from foveate.config import MAX_JSON_BYTES, parse_json
from foveate.errors import ConfigError, WeightsError
from foveate.zoo.checkpoint_file import PICKLE_START, ZIP_START, read_checkpoint

MAX_FILE_BYTES = 16 * 2**30
MAX_TENSORS = 20_000  # EfficientNet-L2 has 2,000
TRUSTED = "convert it to .safetensors with a tool you trust, where you trust the file"

DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Read(NamedTuple):
    """What a file of tensors held."""

    tensors: dict[str, torch.Tensor]
    ordered: bool  # the tensors come in the order of their network
    note: str  # which of several state dicts was taken; "" where there was one


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """The named tensors of a file of safetensors or of torch.save, on the CPU; read_file says how, and says more."""
    return read_file(path, sha256=sha256).tensors


def read_file(path: str | Path, *, key: str | None = None, sha256: str | None = None) -> Read:
    """The named tensors of a file, on the CPU. What kind it is, its bytes say, not its name.

    key: which of several state dicts in a file of torch.save (read_checkpoint). Raises WeightsError for a file that is
    damaged, whose state dict holds other than plain dense tensors, that has no state dict or several without a usual
    name, or whose bytes have another SHA-256 than the one given. Tensors of torch.save come in its order; safetensors
    keeps none.
    """
    path = Path(path)
    with open_regular(path, MAX_FILE_BYTES) as file:
        start = file.read(16)
        file.seek(0)
        plain = start[8:9] == b"{" or (
            path.suffix == ".safetensors" and not start.startswith((ZIP_START, PICKLE_START))
        )
        if plain:
            _check_layout(path, file)
        elif not start.startswith((ZIP_START, PICKLE_START)):
            raise WeightsError(f"{path}: neither a safetensors file nor one of torch.save; {TRUSTED}")
        data = file.read()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{path}: its SHA-256 is not the recorded one; the file is damaged or was replaced")
    if plain:
        if key is not None:
            raise WeightsError(f"{path}#{key}: a safetensors file holds one state dict; leave out #{key}")
        read = Read(_from_safetensors(path, data), False, "")
    else:
        try:
            tensors, note = read_checkpoint(data, key)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}" + ("" if "#KEY" in str(error) else f"; {TRUSTED}")) from None
        read = Read(tensors, True, note)
    if len(read.tensors) > MAX_TENSORS:
        raise WeightsError(f"{path}: {len(read.tensors):,} tensors; at most {MAX_TENSORS:,} are read")
    for name, tensor in read.tensors.items():
        _check_tensor(path, name, tensor, len(data))
    return read


def tensor_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] = {}) -> bytes:  # read only
    """The tensors as the bytes of a .safetensors file. Equal tensors and metadata give equal bytes."""
    from safetensors.torch import save

    data = save(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, dict(metadata) or None
    )  # of neither it writes no JSON
    # the library writes the metadata in the order of a randomised hash table: sort them
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if metadata:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def open_regular(path: Path, limit_bytes: int) -> BinaryIO:
    """Open a regular file of at most limit_bytes for reading; anything else is a WeightsError before a byte is read."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise WeightsError(f"{path}: not a regular file; expected one")
        if found.st_size > limit_bytes:
            raise WeightsError(f"{path}: {found.st_size:,} bytes; at most {limit_bytes:,} are read")
        return open(path, "rb")
    except OSError as error:
        reason = (error.strerror or "can not be read").lower()
        raise WeightsError(f"{path}: {reason}; expected a file") from None


def read_small(path: Path) -> bytes:
    """The bytes of a JSON file, its size checked before it is read."""
    with open_regular(path, MAX_JSON_BYTES) as file:
        return file.read()


def _check_layout(path: Path, file: BinaryIO) -> None:
    """Check that the tensors in the header of a safetensors file cover the rest once and in full; rewind the file.

    The library checks most of this again; keys that stand twice it accepts, and 100,000 tensors take it seconds.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_JSON_BYTES and length <= size - 8:
        raise WeightsError(f"{path}: header of {length:,} bytes; at most {MAX_JSON_BYTES:,} are read")
    if size < 8 or length > size - 8:
        raise WeightsError(f"{path}: not a safetensors file (header of {length:,} bytes, file of {size:,}); {TRUSTED}")
    try:
        header = parse_json(file.read(length), f"{path}: header")
    except ConfigError as error:
        raise WeightsError(str(error)) from None
    file.seek(0)
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: header: expected an object")
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(entries) > MAX_TENSORS:
        raise WeightsError(f"{path}: {len(entries):,} tensors; at most {MAX_TENSORS:,} are read")
    spans = sorted(_span(path, name, entry) for name, entry in entries.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise WeightsError(
                f"{path}: tensor {name!r} starts at byte {start:,}; expected {end:,} (a hole or an overlap)"
            )
        end = stop
    if end != size - 8 - length:
        raise WeightsError(f"{path}: its tensors end at byte {end:,} of {size - 8 - length:,}; the file is damaged")


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """(first byte, byte after the last, name) of a header entry, whose dtype, shape and offsets must agree."""
    _check_name(path, name)
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if len(entry) == 3:
            whole = all(type(n) is int and n >= 0 for n in (*shape, start, stop)) and len(shape) <= 8
            if whole and dtype in DTYPE_BYTES and stop - start == math.prod(shape) * DTYPE_BYTES[dtype]:
                return start, stop, name
    raise WeightsError(f"{path}: tensor {name!r}: dtype, shape and offsets do not agree, or are of no kind known here")


def _from_safetensors(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {_line(error)}") from None


def _check_tensor(path: Path, name: Any, tensor: Any, file_bytes: int) -> None:
    """A plain dense tensor under a plain name. A repeated element (stride 0) could stand for any amount of memory."""
    _check_name(path, name)
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise WeightsError(f"{path}: {name!r} is a {type(tensor).__name__}; a state dict holds only tensors")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > file_bytes:
        raise WeightsError(f"{path}: {name!r} is not a plain dense tensor of at most the file's size")


def _check_name(path: Path, name: Any) -> None:
    plain = isinstance(name, str) and 0 < len(name) <= 512 and name.isprintable()
    if not plain or ".." in name or name[0] in "/\\":
        raise WeightsError(f"{path}: {str(name)[:60]!r} is no name of a tensor")


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(".")
