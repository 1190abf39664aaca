"""Damaged and hostile input for everything that reads strangers' files: targets, first inputs, changes, and a child.

A target is a function of bytes that may raise FoveateError and nothing else, within SECONDS and MEMORY. scripts/fuzz
runs many inputs, test_fuzz.py a few; what they find becomes a case of tests/regress.
"""

import contextlib
import io
import json
import random
import resource
import signal
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "data"))  # where pytest does not, for make_odd_images

from foveate.errors import FoveateError

MEMORY = 500 * 2**20  # bytes above what the process has after its imports
SECONDS = 10  # of the processor, of one input
WAIT = 600  # of the wall, however busy the machine
LARGEST = 60_000  # bytes of a first input
Target = Callable[[bytes, Path], object]
NASTY = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff\xff\xff\x7f"),
    *(b"1e999", b"-1", b"NaN", b"1000000000", b"9" * 400, b"null", b"[]", b"{}", b'"', b"\\u0000", b"\\ud800"),
    *(b",", b"\n", b"\r\n", b"=1+1", b"../", b"[" * 40, b'{"a":' * 40, b"\x1b[31m", b"\xe2\x80\xae", b"%s", b"1e-300"),
)


def header(data: bytes, folder: Path) -> object:
    """The probe of a picture."""
    from foveate.data.read.formats import probe

    return probe(data)


def picture(data: bytes, folder: Path) -> object:
    """All pixels of a picture of at most a megapixel."""
    from foveate.data.read.decode import decode
    from foveate.data.read.reader import Limits

    return decode(data, Limits(max_pixels=2**20, max_bytes=64 * 2**20))


def crop(data: bytes, folder: Path) -> object:
    """A random crop of a picture, by the quick way."""
    from foveate.data.read.fast import cut
    from foveate.data.read.reader import Limits

    return cut(data, (0.1, 0.4, 0.7, 0.9), 16, 0.3, limits=Limits(max_pixels=2**20, max_bytes=64 * 2**20))


def card(data: bytes, folder: Path) -> object:
    """config.json of a model folder; its network is built without memory."""
    import torch

    from foveate.errors import ConfigError
    from foveate.train.artefact import read_card
    from foveate.zoo import build

    (folder / "config.json").write_bytes(data)
    found, _ = read_card(folder)
    try:
        with torch.device("meta"):
            return build(found.architecture)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # what load_model makes a ConfigError of
        raise ConfigError(str(error)) from None


def table(data: bytes, folder: Path) -> object:
    """A CSV of pictures."""
    from foveate.data.table import read_table

    (folder / "table.csv").write_bytes(data)
    return read_table(folder / "table.csv")


def safetensors(data: bytes, folder: Path) -> object:
    """A weights file."""
    from foveate.zoo.tensors import read_tensors

    (folder / "a.safetensors").write_bytes(data)
    return read_tensors(folder / "a.safetensors")


def checkpoint(data: bytes, folder: Path) -> object:
    """A weights file of PyTorch's own."""
    from foveate.zoo.tensors import read_tensors

    (folder / "a.pt").write_bytes(data)
    return read_tensors(folder / "a.pt")


def onnx(data: bytes, folder: Path) -> object:
    """The checks before onnxruntime."""
    from foveate.deploy.runtime import inspect

    return inspect(data)


def words(data: bytes, folder: Path) -> object:
    """Values and calls of the command line."""
    from foveate.config import parse_call, parse_value
    from foveate.errors import printable

    text = data.decode("utf-8", "surrogateescape")
    assert printable(text).isprintable()
    return parse_value(text), parse_call(text)


TARGETS: dict[str, Target] = {
    f.__name__: f for f in (header, picture, crop, card, table, safetensors, checkpoint, onnx, words)
}
PICTURES = ("header", "picture", "crop")


def corpus(name: str) -> list[bytes]:
    """The first inputs of a target: whole files of every kind that it reads."""
    if name in PICTURES:
        from make_odd_images import ODD

        made = [odd.make() for key, odd in ODD.items() if "bomb" not in key and "huge" not in key]
        return [data for data in made if len(data) <= LARGEST]
    if name == "card":
        return _cards()
    if name == "table":
        rows = ("path,label\na.jpg,x\nb.jpg,y\n", 'label,path,split,group\r\n"a\nb",c.png,train,1\r\n', "path;label\n")
        return [text.encode() for text in (*rows, "\ufeffpath,label\n../a,'=x\n", "path,label,split\na,b,eval\n")]
    if name == "words":
        return [b"group_norm(groups=16)", b"relu", b"[1, 2]", b"(0.9, 0.999)", b"se(reduction=16, act='silu')", b"none"]
    return {"safetensors": _safetensors, "checkpoint": _checkpoints, "onnx": _onnx}[name]()


def _cards() -> list[bytes]:
    from foveate.config import to_dict
    from foveate.data.preprocess import Preprocess
    from foveate.zoo import variant

    made = []
    for name in ("resnet20_cifar", "mobilenet_v2_1.0", "mobilenet_v3_small", "densenet121", "regnety_200mf", "alexnet"):
        with contextlib.suppress(FoveateError):
            config = to_dict(variant(name))
            facts = {"format": "foveate-model", "version": 1, "architecture": {**config, "num_classes": 2}}
            more = {"classes": ["a", "b"], "preprocess": to_dict(Preprocess()), "provenance": {"data": "x", "epoch": 1}}
            metric = {"name": "accuracy", "value": 0.5, "n": 9, "split": "val"}
            made.append(json.dumps({**facts, **more, "weights_sha256": "0" * 64, "metrics": [metric]}).encode())
    return made


def _safetensors() -> list[bytes]:
    import torch

    from foveate.zoo.tensors import tensor_bytes

    few = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2, dtype=torch.float16), "n": torch.tensor(3)}
    return [tensor_bytes(few, {"format": "pt"}), tensor_bytes({"x": torch.arange(20)})]


def _checkpoints() -> list[bytes]:
    import torch

    made = []
    few = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2, dtype=torch.bfloat16)}
    for value in (few, {"state_dict": few, "epoch": 3}, {"model": few, "args": {"lr": 0.1, "names": ["a", None]}}):
        for new in (True, False):
            file = io.BytesIO()
            torch.save(value, file, _use_new_zipfile_serialization=new)
            made.append(file.getvalue())
    return made


def _onnx() -> list[bytes]:
    from onnx import TensorProto, helper

    from foveate.config import to_json
    from foveate.data.preprocess import Preprocess
    from foveate.deploy.graph import preprocess_graph

    graph = preprocess_graph(Preprocess(resolution=8, resize=8))
    weight = helper.make_tensor("w", TensorProto.FLOAT, [192, 2], [0.5] * 384)
    nodes = [*graph.node, helper.make_node("Flatten", ["image/pixels"], ["flat"])]
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["logits"]))
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    whole = helper.make_graph(nodes, "net", graph.input, [out], [*graph.initializer, weight])
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)])
    facts = {"classes": '["a", "b"]', "preprocess": to_json(Preprocess(resolution=8, resize=8))}
    helper.set_model_props(model, facts)
    return [model.SerializeToString()]


def changed(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The bytes with one to eight changes: bits, nasty values, numbers, pieces lost, doubled or from another input."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(made) + 1)
        # most of what decides is at the start
        at = min(at, rng.randrange(200)) if rng.random() < 0.4 else at
        end = min(len(made), at + rng.choice((1, 2, 4, 8, 64, 1000)))
        match rng.randrange(8):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(made):
                made[at] = rng.randrange(256)
            case 2:
                made[at : at + rng.choice((0, 1, 4))] = rng.choice(NASTY)
            case 3:
                number = rng.choice((0, 1, 2, 255, 65_500, 2**16 - 1, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)))
                made[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
            case 4:
                del made[at:end]
            case 5:
                made[at:at] = made[at:end] * rng.choice((1, 2, 50))
            case 6:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                made[at:end] = other[start : start + rng.choice((4, 16, 256, 4096))]
            case 7 if rng.random() < 0.2:
                del made[at:]
    made = made[: 2 * LARGEST]
    return _sealed(bytes(made)) if rng.random() < 0.5 else bytes(made)


def _sealed(data: bytes) -> bytes:
    """A PNG with right checksums, so that what is behind them is reached; anything else as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]


def tried(name: str, data: bytes, folder: Path) -> str:
    """ "good" or "refused"; anything but a FoveateError comes through."""
    try:
        TARGETS[name](data, folder)
    except FoveateError as error:
        str(error)
        return "refused"
    return "good"


def run(name: str, seed: int, start: int, count: int, folder: Path) -> dict[str, int]:
    """Inputs start to start + count of a target, here and under limits, each written to folder/current before.

    Returns counts, the bytes of memory that were added at most, and the slowest in ms. A fault ends the process, or
    raises; it is then the input in folder/current.
    """
    resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
    first = corpus(name)
    for data in first:
        tried(name, data, folder)  # its imports
    limit_memory()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"good": 0, "refused": 0, "slowest_ms": 0}
    for i in range(start, start + count):
        rng = random.Random(f"{seed} {name} {i}")
        data = changed(rng.choice(first), first, rng)
        (folder / "current").write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAIT)
        begin = time.process_time()
        counts[tried(name, data, folder)] += 1
        counts["slowest_ms"] = max(counts["slowest_ms"], round(1000 * (time.process_time() - begin)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return {**counts, "added_bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def limit_memory() -> None:
    """No more than MEMORY above what the process has; more is a MemoryError, or its end."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":  # a child: FOLDER SEED TARGET=COUNT[@START]...; prints one JSON object
    _, place, seed, *asked = sys.argv
    found = {}
    for word in asked:
        which, _, numbers = word.partition("=")
        count, _, start = numbers.partition("@")
        found[which] = run(which, int(seed), int(start or 0), int(count), Path(place))
    print(json.dumps(found))
