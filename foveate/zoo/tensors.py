"""Named tensors in files: safetensors, and PyTorch's own format. Damaged and hostile files raise WeightsError.

The checks here come before the library that reads the file. They are about size and ambiguity: a small file may not ask
for much memory or time, and no file may mean two things. That no code runs is the doing of the format (safetensors)
and of torch.load(weights_only=True); there is no other mode and no fallback.
"""

import hashlib
import io
import json
import math
import pickletools
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from foveate.config import MAX_JSON_BYTES, parse_json
from foveate.errors import ConfigError, WeightsError

MAX_FILE_BYTES = 16 * 2**30
MAX_TENSORS = 20_000  # EfficientNet-L2 has 2,000
MAX_PICKLE_BYTES = 4 * 2**20  # names and shapes of a .pt file; its numbers are stored apart
SMALL = 2**16  # numbers up to here are not looked at: versions, counts
TRUSTED = "convert it to .safetensors with a tool you trust, where you trust the file"

ZIP_START = b"PK\x03\x04"
LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.save before 1.6: the magic number as a pickle
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """The named tensors of a .safetensors, .pt or .pth file, on the CPU.

    Raises WeightsError for a file that is damaged, that holds anything but plain dense tensors, or whose bytes have
    another SHA-256 than the one given. Tensors of a .pt file come in its order; a .safetensors file keeps none.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise WeightsError(f'{path}: weights files end in .safetensors, .pt or .pth, this one in "{path.suffix}"')
    with open_regular(path, MAX_FILE_BYTES) as file:
        if path.suffix == ".safetensors":
            _check_layout(path, file)
        data = file.read()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{path}: its SHA-256 is not the recorded one; the file is damaged or was replaced")
    tensors = _from_safetensors(path, data) if path.suffix == ".safetensors" else _from_torch(path, data)
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor, len(data))
    return tensors


def tensor_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] = {}) -> bytes:  # read only
    """The tensors as the bytes of a .safetensors file. Equal tensors and metadata give equal bytes."""
    from safetensors.torch import save

    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, dict(metadata))
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


def _from_torch(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    if data.startswith(ZIP_START):
        _check_zip(path, data)
    elif data.startswith(LEGACY_START):
        _check_pickles(path, data[len(LEGACY_START) :], len(data), pickles=4)
    else:
        raise WeightsError(f"{path}: not a file of torch.save; {TRUSTED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd tensors, which are refused below
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the reader raise
        raise WeightsError(f"{path}: refused by torch.load: {_line(error)}; {TRUSTED}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found:
        raise WeightsError(f"{path}: holds a {type(found).__name__}; expected a state dict (names and tensors)")
    return dict(found)


def _check_zip(path: Path, data: bytes) -> None:
    """torch.save stores the parts of its archive unpacked, so a bomb shows in the directory before anything is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            pickles = [p for p in parts if p.filename.endswith("/data.pkl")]
            packed = any(p.compress_type != zipfile.ZIP_STORED or p.compress_size != p.file_size for p in parts)
            if packed or sum(p.file_size for p in parts) > len(data) or len({p.filename for p in parts}) != len(parts):
                raise WeightsError(f"{path}: its parts are packed, overlap or stand twice; torch.save writes none such")
            if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
                raise WeightsError(f"{path}: expected one data.pkl of at most {MAX_PICKLE_BYTES:,} bytes inside")
            _check_pickles(path, archive.read(pickles[0]), len(data), pickles=1)
    except (zipfile.BadZipFile, ArithmeticError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: damaged archive ({_line(error)})") from None


def _check_pickles(path: Path, data: bytes, file_bytes: int, *, pickles: int) -> None:
    """Look through a pickle without running it: no number in it (a size, a shape) may be larger than the file."""
    stream, largest = io.BytesIO(data), max(file_bytes, SMALL)
    try:
        for _ in range(pickles):
            for _op, value, _at in pickletools.genops(stream):
                if type(value) is int and abs(value) > largest:
                    raise WeightsError(f"{path}: asks for more than the {file_bytes:,} bytes of the file; {TRUSTED}")
                if stream.tell() > MAX_PICKLE_BYTES:
                    raise WeightsError(f"{path}: over {MAX_PICKLE_BYTES:,} bytes of names and shapes; {TRUSTED}")
    except (ArithmeticError, IndexError, ValueError) as error:
        raise WeightsError(f"{path}: damaged ({_line(error)}); {TRUSTED}") from None


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
    """An error's text as one short line. torch's own advice to load without protection is left out."""
    text = str(error).strip() or type(error).__name__
    if "weights_only" in text:
        named = re.search(r"GLOBAL (\S+)", text)
        return f"it asks for {named[1]}" if named else "it holds more than tensors"
    return text.splitlines()[0][:160].rstrip(".")
