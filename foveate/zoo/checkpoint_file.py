"""Files of torch.save, the archive and the older form: which state dicts they hold, and the tensors of one of them.

A file is what its bytes say, whatever it is called. Only one reader looks at it, so nothing can be checked by one and
meant by another; torch.load is not used.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from foveate.errors import WeightsError
from foveate.zoo.pickles import MAX_PICKLE_BYTES, Inert, Name, Storage, Tensor, read_pickle

ZIP_START = b"PK\x03\x04"
PICKLE_START = b"\x80"
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch.save before 1.6
MAX_PARTS = 100_000  # of an archive
MAX_VIEWS = 16  # times the file that all tensors together may seem to be; layers that share weights repeat them

# where training scripts put the weights, in the order in which they are taken
PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
AVERAGE = re.compile(r"ema|swa|averag|shadow", re.IGNORECASE)
NO_WEIGHTS = re.compile(r"optim|^opt$|sched|scaler|rng|random|criterion|loss|metric", re.IGNORECASE)
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    )
}

Fetch = Callable[[str], bytes]


class Checkpoint(NamedTuple):
    """What a file holds: plain values (pickles.py), and the bytes of a storage by its key."""

    value: Any
    fetch: Fetch


def read_checkpoint(data: bytes, key: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """(tensors in their order, a note where there was a choice) of the bytes of a file of torch.save.

    key: which state dict, as the errors and notes name them ("model_ema", "model.state_dict"), or the beginning of its
    tensors' names ("student"). WeightsError for anything that is no plain state dict.
    """
    found = _opened_archive(data) if data.startswith(ZIP_START) else _opened_legacy(data)
    state, note = chosen(found.value, key)
    return _tensors(state, found.fetch, len(data)), note


def chosen(value: Any, key: str | None = None) -> tuple[Mapping[str, Tensor], str]:
    """(the state dict to take, a note where there are others) of what a file holds."""
    states = state_dicts(value)
    listed = ", ".join(f'"{name}" ({_count(state)} tensors)' for name, state in states.items())
    if key is not None:
        if key in states:
            return _plain(states[key]), ""
        for state in states.values():
            inside = {name.removeprefix(f"{key}."): t for name, t in state.items() if str(name).startswith(f"{key}.")}
            if _count(inside):
                return _plain(inside), ""
        raise WeightsError(f'no state dict "{key}" in it; there are {listed or "none"}')
    if not states:
        raise WeightsError(f"holds {_described(value)}; expected a state dict (names and tensors)")
    order = sorted(states, key=_rank)
    if len(order) == 1:
        return _plain(states[order[0]]), ""
    if _rank(order[0])[1] == len(PLAIN) or _rank(order[0]) == _rank(order[1]):
        raise WeightsError(f"holds several state dicts: {listed}; choose one with FILE#KEY, such as FILE#{order[0]}")
    return _plain(states[order[0]]), f'took "{order[0]}" of {listed}; choose another with FILE#KEY'


def state_dicts(value: Any) -> dict[str, Mapping[Any, Any]]:
    """Key -> the state dicts of a file: the whole, values of it, and their values; "" is the whole."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, Mapping[Any, Any]] = {}
    for key, inner in value.items():
        if not isinstance(inner, dict) or not isinstance(key, str) or NO_WEIGHTS.search(key) or "param_groups" in inner:
            continue
        deeper = {k: v for k, v in inner.items() if isinstance(v, dict) and isinstance(k, str) and _count(v)}
        deeper = {k: v for k, v in deeper.items() if not NO_WEIGHTS.search(k) and _count(v) > _count(inner)}
        found |= {f"{key}.{k}": v for k, v in deeper.items()}
        if _count(inner) and not deeper:
            found[key] = inner
    most = max(map(_count, found.values()), default=0)
    return {"": value} if _count(value) > most else found


def _count(state: Mapping[Any, Any]) -> int:
    return sum(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items())


def _rank(key: str) -> tuple[bool, int]:
    """Plain weights before averages, and by their usual places."""
    places = [PLAIN.index(part) for part in key.split(".") if part in PLAIN]
    averaged = AVERAGE.search(key) is not None
    return averaged, min(places, default=0 if averaged else len(PLAIN))


def _plain(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict without what stands beside them; a tensor that can not be read is refused."""
    for name, value in state.items():
        if isinstance(value, Inert) and "._rebuild_" in value.maker:
            raise WeightsError(f"{str(name)[:60]!r} is no plain dense tensor ({value.maker})")
    if odd := next((k for k, v in state.items() if isinstance(v, Tensor) and not isinstance(k, str)), None):
        raise WeightsError(f"{odd!r} is no name of a tensor")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _described(value: Any) -> str:
    """What a file holds that is no state dict, by name."""
    if isinstance(value, (Inert, Name)):
        maker = value.maker if isinstance(value, Inert) else value.text
        return f"an object of {json.dumps(maker[:80])[1:-1]}, which only its own code can open"
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    objects = {str(k)[:40]: v.maker[:60] for k, v in value.items() if isinstance(v, Inert)}
    keys = [f"{k} ({objects[k]})" if k in objects else k for k in (str(k)[:40] for k in value)]
    names = ", ".join(json.dumps(k)[1:-1] for k in keys[:8])
    return f"a dictionary of {names or 'nothing'}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")


def _tensors(state: Mapping[str, Tensor], fetch: Fetch, file_bytes: int) -> dict[str, torch.Tensor]:
    """The tensors, each over the bytes of its storage; storages that several share are read once."""
    seeming, raw, made = 0, dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, view in state.items():
        dtype = DTYPES.get(view.dtype)
        if dtype is None:
            raise WeightsError(f"{name[:60]!r} is of {view.dtype[:40]}, which is not read")
        count = 1
        for n in view.size:
            count *= n
        seeming += count * dtype.itemsize
        if count * dtype.itemsize > file_bytes or seeming > MAX_VIEWS * file_bytes:
            raise WeightsError(f"{name[:60]!r} is not a plain dense tensor of at most the file's size")
        key = view.storage.key
        if key not in raw:
            raw[key] = _bytes_of(view.storage, fetch)
        last = view.offset + sum((n - 1) * step for n, step in zip(view.size, view.stride, strict=True))
        if count and (last + 1) * dtype.itemsize > len(raw[key]):
            raise WeightsError(f"{name[:60]!r} reaches beyond its storage")
        if count == 0:
            made[name] = torch.empty(view.size, dtype=dtype)
            continue
        numbers = raw[key][: len(raw[key]) // dtype.itemsize * dtype.itemsize].view(dtype)
        made[name] = numbers.as_strided(view.size, view.stride, view.offset)
    return made


def _bytes_of(storage: Storage, fetch: Fetch) -> torch.Tensor:
    held = bytearray(fetch(storage.key))
    if storage.numbers * DTYPES[storage.dtype].itemsize > len(held):
        raise WeightsError(f"storage {storage.key[:60]!r} of {storage.numbers:,} numbers has {len(held):,} bytes")
    return torch.frombuffer(held, dtype=torch.uint8) if held else torch.empty(0, dtype=torch.uint8)


def _opened_archive(data: bytes) -> Checkpoint:
    """torch.save stores the parts of its archive unpacked, so a bomb shows in the directory before anything is read."""
    if data.count(b"PK\x01\x02") > MAX_PARTS:
        raise WeightsError(f"over {MAX_PARTS:,} parts; torch.save writes one a tensor")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        parts = {part.filename: part for part in archive.infolist()}
        if any("/code/" in name for name in parts):
            raise WeightsError("holds a TorchScript program; expected a state dict: save model.state_dict()")
        packed = any(p.compress_type != zipfile.ZIP_STORED or p.compress_size != p.file_size for p in parts.values())
        whole = sum(p.file_size for p in parts.values())
        if packed or whole > len(data) or len(parts) != len(archive.infolist()):
            raise WeightsError("its parts are packed, overlap or stand twice; torch.save writes none such")
        roots = [name.removesuffix("data.pkl") for name in parts if name.endswith("/data.pkl")]
        if len(roots) != 1 or parts[f"{roots[0]}data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise WeightsError(f"expected one data.pkl of at most {MAX_PICKLE_BYTES:,} bytes inside")
        order = parts.get(f"{roots[0]}byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order).strip() != b"little"):
            raise WeightsError("its numbers are stored with the high byte first; save it on an ordinary processor")
        value, _, _ = read_pickle(archive.read(f"{roots[0]}data.pkl"), len(data))
    except (zipfile.BadZipFile, ArithmeticError, EOFError, OSError, RuntimeError, ValueError, zlib.error) as error:
        raise WeightsError(f"damaged archive ({_line(error)})") from None

    def fetch(key: str) -> bytes:
        try:
            return archive.read(f"{roots[0]}data/{key}")
        except (zipfile.BadZipFile, KeyError, EOFError, OSError, RuntimeError, ValueError, zlib.error) as error:
            raise WeightsError(f"damaged archive ({_line(error)})") from None

    return Checkpoint(value, fetch)


def _opened_legacy(data: bytes) -> Checkpoint:
    """Magic number, version, system, value and list of storages as pickles one after the other; then the storages."""
    first, at, _ = read_pickle(data[:64], len(data)) if data[:20].find(MAGIC.to_bytes(10, "little")) > 0 else (0, 0, 0)
    if first != MAGIC:
        read_pickle(data, len(data))  # says what a plain pickle asks for
        raise WeightsError("a plain pickle, not a file of torch.save")
    values, known = [], dict[str, Storage]()
    for _ in range(4):
        value, size, named = read_pickle(data[at : at + MAX_PICKLE_BYTES + 1], len(data))
        values.append(value)
        known |= named
        at += size
    keys, spans = values[3], dict[str, tuple[int, int]]()
    if not isinstance(keys, list) or len(set(map(str, keys))) != len(keys):
        raise WeightsError("damaged (its list of storages)")
    for key in keys:
        if not isinstance(key, str) or key not in known:
            raise WeightsError("damaged (a storage that no tensor has)")
        size = int.from_bytes(data[at : at + 8], "little") * DTYPES[known[key].dtype].itemsize
        spans[key] = (at + 8, at + 8 + size)
        at += 8 + size
        if at > len(data):
            raise WeightsError("damaged (it ends too early)")

    def fetch(key: str) -> bytes:
        if key not in spans:
            raise WeightsError("damaged (a tensor without its numbers)")
        return data[slice(*spans[key])]

    return Checkpoint(values[2], fetch)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(".")
