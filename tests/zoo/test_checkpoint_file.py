"""Checkpoints as training scripts write them: read by content, whatever stands beside; nothing in them is called."""

import argparse
import collections
import datetime
import functools
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from foveate.errors import WeightsError
from foveate.zoo import build
from foveate.zoo.families.efficientnet.network import EfficientNetConfig, Stage
from foveate.zoo.tensors import read_file, read_tensors
from foveate.zoo.weights import load_weights, path_and_key

TINY = EfficientNetConfig((Stage(1, 8, 1, 3, 1), Stage(2, 16, 4, 3, 2)), stem=8, head=32, num_classes=5, resolution=32)


def tiny(seed):
    torch.manual_seed(seed)
    return build(TINY)


SOURCE, OTHER = tiny(1), tiny(2)
STATE, AVERAGE = SOURCE.state_dict(), OTHER.state_dict()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def saved(path, value, *, legacy=False):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def loads(path, expected=SOURCE):
    target = tiny(3)
    load_weights(target, path)
    assert equal(target, expected)


def prefixed(state, prefix, **more):
    return {f"{prefix}{name}": t for name, t in state.items()} | more


class Settings:
    """An object that would do harm when it is made again."""

    def __init__(self, canary=None):
        self.canary = canary

    def __setstate__(self, state):
        pathlib.Path(state["canary"]).touch()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pth.tar", "w.ckpt", "w.bin", "w.PTH", "w.safetensors", "weights"])
def test_a_file_is_what_its_bytes_say(name, legacy, tmp_path):
    loads(saved(tmp_path / name, STATE, legacy=legacy))


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.SAFETENSORS", "weights"])
def test_safetensors_is_known_under_any_name(name, tmp_path):
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / name)
    loads(tmp_path / name)
    assert not read_file(tmp_path / name).ordered


def optimizer():
    made = torch.optim.Adam(SOURCE.parameters())
    sum(p.sum() for p in SOURCE.parameters()).backward()
    made.step()
    SOURCE.zero_grad()
    return made.state_dict()


WRAPPED = {
    "plain": lambda: dict(STATE),
    "net": lambda: {"net": STATE, "acc": 94.2, "epoch": 3},
    "model": lambda: {"model": STATE, "optimizer": optimizer(), "args": argparse.Namespace(lr=0.1)},
    "state_dict": lambda: {"epoch": 1, "arch": "x", "state_dict": STATE, "best_acc1": torch.tensor(3.0)},
    "model_state_dict": lambda: {"model_state_dict": STATE, "optimizer_state_dict": optimizer(), "loss": 0.1},
    "state_dict_ema": lambda: {"state_dict_ema": STATE},
    "model_ema": lambda: {"model_ema": prefixed(STATE, "module.", n_averaged=torch.tensor(7)), "epoch": 1},
    "ema": lambda: {"ema": {"module": STATE, "decay": 0.99}},
    "nested": lambda: {"checkpoint": {"state_dict": STATE}, "epoch": 2},
    "unusual": lambda: {"encoder": STATE},
    "swa": lambda: prefixed(STATE, "module.", n_averaged=torch.tensor(3)),
    "ddp": lambda: {"state_dict": prefixed(STATE, "module.")},
    "compiled": lambda: prefixed(STATE, "_orig_mod."),
    "ddp_compiled": lambda: prefixed(STATE, "module._orig_mod."),
    "lightning": lambda: {
        "state_dict": prefixed(STATE, "model."),
        "hyper_parameters": {"lr": 0.1, "path": pathlib.PurePosixPath("x")},
        "pytorch-lightning_version": "2.5.0",
        "optimizer_states": [optimizer()],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
    },
    "lightning_net": lambda: {"state_dict": prefixed(STATE, "net.", **{"criterion.weight": torch.ones(5)})},
    "lightning_backbone": lambda: {"state_dict": prefixed(STATE, "backbone._orig_mod.")},
    "fastai": lambda: {"model": STATE, "opt": {"state": [{"mom": torch.ones(3)}], "hypers": [{"lr": 1e-3}]}},
    "namespace": lambda: {**STATE, "args": argparse.Namespace(data="x", betas=(0.9, 0.99))},
    "objects": lambda: {
        "state_dict": STATE,
        "cfg": types.SimpleNamespace(a=1),
        "when": datetime.datetime(2024, 1, 2),
        "score": np.float64(0.5),
        "table": np.arange(3),
        "seen": {1, 2},
        "counts": collections.defaultdict(int, a=2),
        "part": functools.partial(sorted),
        "rng": torch.get_rng_state(),
        "seed": 2**63 + 5,
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "activation": nn.functional.relu,
    },
    "parameters": lambda: {name: nn.Parameter(t, t.is_floating_point()) for name, t in STATE.items()},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", [k for k in WRAPPED if k != "objects"])
def test_weights_are_found_where_training_scripts_put_them(kind, legacy, tmp_path):
    loads(saved(tmp_path / "w.pth.tar", WRAPPED[kind](), legacy=legacy))


def test_a_function_beside_the_weights_is_named_and_not_looked_up(tmp_path):
    value = WRAPPED["objects"]()
    with pytest.raises(WeightsError, match=r"it asks for (builtins|__builtin__)\.sorted; convert it"):
        read_tensors(saved(tmp_path / "w.pt", value))
    del value["part"]
    loads(saved(tmp_path / "w.pt", value))


def test_objects_beside_the_weights_are_not_made(tmp_path):
    canary = tmp_path / "canary"
    path = saved(tmp_path / "w.ckpt", {"state_dict": STATE, "cfg": Settings(str(canary))})
    loads(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the file would do it in a careless reader
    assert canary.exists()


def test_all_numbers_and_shapes_are_those_of_torch(tmp_path):
    base = torch.arange(24.0)
    value = {
        "view": base.view(4, 6)[1:3, ::2],
        "turned": base.view(4, 6).t(),
        "tied": base,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(2, dtype=torch.float16),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "small": torch.tensor([-1], dtype=torch.int8),
    }
    for legacy in (False, True):
        found = read_tensors(saved(tmp_path / "w", value, legacy=legacy))
        assert list(found) == list(value)
        for name, t in value.items():
            assert torch.equal(found[name], t) and found[name].dtype == t.dtype, name
    eight = {"a": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn), "b": torch.tensor([9], dtype=torch.uint16)}
    found = read_tensors(saved(tmp_path / "w", eight))
    assert all(torch.equal(found[n].view(torch.uint8), t.view(torch.uint8)) for n, t in eight.items())


def test_of_several_state_dicts_the_plain_one_is_taken_and_the_others_are_named(tmp_path):
    path = saved(tmp_path / "w.pth", {"epoch": 1, "state_dict": STATE, "state_dict_ema": AVERAGE})
    with pytest.warns(UserWarning, match=r'w.pth: took "state_dict" of "state_dict" \(\d+ tensors\), "state_dict_ema"'):
        loads(path)
    loads(f"{path}#state_dict_ema", OTHER)
    loads(f"local-dir:{path}#state_dict")
    with pytest.raises(WeightsError, match='no state dict "ema" in it; there are "state_dict"'):
        load_weights(tiny(3), f"{path}#ema")


def test_state_dicts_of_unknown_meaning_are_asked_for(tmp_path):
    path = saved(tmp_path / "gan.pt", {"generator": STATE, "discriminator": AVERAGE, "opt": optimizer()})
    with pytest.raises(WeightsError, match=r'several state dicts: "generator".*"discriminator".*FILE#generator$'):
        load_weights(tiny(3), path)
    loads(f"{path}#discriminator", OTHER)


def test_two_networks_in_one_state_dict_are_asked_for(tmp_path):
    both = prefixed(STATE, "student.") | prefixed(AVERAGE, "teacher.")
    path = saved(tmp_path / "w.ckpt", {"state_dict": both})
    with pytest.raises(WeightsError, match=r"more than once, as student and teacher; choose with FILE#student"):
        load_weights(tiny(3), path)
    loads(f"{path}#teacher", OTHER)
    averaged = saved(tmp_path / "e.ckpt", {"state_dict": prefixed(STATE, "model.") | prefixed(AVERAGE, "ema_model.")})
    with pytest.warns(UserWarning, match=r"took model\.\*, left out \d+ other tensors"):
        loads(averaged)


def test_a_file_whose_name_holds_the_mark_is_a_file(tmp_path):
    path = saved(tmp_path / "run#3.pt", STATE)
    assert path_and_key(path) == (path, None)
    loads(path)


def test_another_network_in_a_wrapper_is_named_by_its_first_differences(tmp_path):
    path = saved(tmp_path / "w.pth", {"model": prefixed(nn.Sequential(nn.Conv2d(3, 8, 3)).state_dict(), "module.")})
    with pytest.raises(WeightsError, match=r"w\.pth do not fit this model: missing conv_stem.*and \d+ more"):
        load_weights(tiny(3), path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"epoch": 3, "acc": 0.9}, "holds a dictionary of epoch, acc; expected a state dict"),
        ({"model": nn.Linear(2, 2)}, r"a dictionary of model \(torch.nn.modules.linear.Linear\)"),
        (nn.Linear(2, 2), "an object of torch.nn.modules.linear.Linear, which only its own code can open"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"optimizer": {"state": {0: {"m": torch.ones(2)}}, "param_groups": []}}, "a dictionary of optimizer"),
        ({"a": torch.ones(3), "b": torch.eye(3).to_sparse()}, "'b' is no plain dense tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_holds_no_weights_says_what_it_holds(value, words, tmp_path):
    with pytest.raises(WeightsError, match=words):
        read_tensors(saved(tmp_path / "w.pt", value))


def test_a_program_of_torchscript_says_what_to_save(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"a TorchScript program; expected a state dict: save model\.state_dict\(\)"):
        read_tensors(tmp_path / "w.pt")


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(WeightsError, match=r"a plain pickle, not a file of torch\.save"):
        read_tensors(tmp_path / "w.pkl")


# Attacks: each pickle stands in an archive as torch.save writes it.

CALLS = ["os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.getattr", "runpy.run_path"]
CALLS += ["torch.hub.load", "torch.jit.unsupported_tensor_ops.execWrapper", "numpy.load", "pip.main", "timeit.timeit"]
CALLS += ["operator.mul", "itertools.repeat", "importlib.import_module", "types.CodeType", "torch.load", "pty.spawn"]


def call(name, argument=b"K\x01"):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + argument + b"\x85R"


def archive(pickled, *parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in (("x/data.pkl", pickled), ("x/version", b"3\n"), ("x/byteorder", b"little"), *parts):
            made.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("protocol", ["reduce", "object", "instance", "stack_global"])
def test_a_call_that_no_checkpoint_needs_is_refused_by_name(name, protocol, tmp_path):
    module, _, attribute = name.rpartition(".")
    pickled = {
        "reduce": b"\x80\x02" + call(name) + b".",
        "object": f"\x80\x02(c{module}\n{attribute}\n".encode("latin1") + b"K\x01o.",
        "instance": f"\x80\x02(K\x01i{module}\n{attribute}\n.".encode("latin1"),
        "stack_global": b"\x80\x04"
        + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, attribute))
        + b"\x93K\x01\x85R.",
    }[protocol]
    (tmp_path / "w.pt").write_bytes(archive(pickled))
    with pytest.raises(WeightsError, match=f"it asks for {name}"):
        read_tensors(tmp_path / "w.pt")


BYTES = b"cbuiltins\nbytearray\nq\x010"  # kept in the memo
ONE = b"h\x01J\x00\x00\x01\x00\x85R"  # bytearray(65536)


def tensor_of(shape, stride, numbers=4, offset=0):
    """{"a": a tensor over one storage of so many numbers}"""
    ints = lambda values: b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", v) for v in values) + b"t"  # noqa: E731
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x08"
    storage += struct.pack("<q", numbers) + b"tQ"
    given = storage + b"\x8a\x08" + struct.pack("<q", offset) + ints(shape) + ints(stride) + b"\x89ccollections\n"
    given += b"OrderedDict\n)R"
    return b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + given + b"tRs."


STORED = ("x/data/0", bytes(16))


def bombs():
    """name -> a file of torch.save that asks a careless reader for much memory or time, or for what is not there."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x/data.pkl", bytes(50_000_000))
    return {
        "bytearrays": archive(b"\x80\x02" + BYTES + b"](" + ONE * 380_000 + b"e."),
        "few_bytearrays": archive(b"\x80\x02" + BYTES + b"](" + ONE * 2_000 + b"e."),
        "one_bytearray": archive(
            b"\x80\x02" + call("builtins.bytearray", b"\x8a\x08" + struct.pack("<q", 2**40)) + b"."
        ),
        "bytes": archive(b"\x80\x02](" + call("builtins.bytes", b"J\x00\x00\x00\x7f") * 20 + b"e."),
        "range": archive(b"\x80\x02" + call("builtins.range", b"J\x00\x00\x00\x7f") + b"."),
        "lists": archive(b"\x80\x02](" + b"]" * 700_000 + b"e."),
        "ordered_dicts": archive(b"\x80\x02](" + b"ccollections\nOrderedDict\n)R" * 30_000 + b"e."),
        "sets": archive(b"\x80\x04](" + b"\x8f" * 700_000 + b"e."),
        "deep_lists": archive(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        "deep_tuples": archive(b"\x80\x02)" + b"\x85" * 100_000 + b"."),
        "deep_marks": archive(b"\x80\x02" + b"(" * 900_000 + b"l" * 900_000 + b"."),
        "doubling_tuples": archive(b"\x80\x02K\x01" + b"2\x86" * 100_000 + b"."),
        "doubling_keys": archive(b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s."),
        "itself": archive(b"\x80\x02]q\x00(" + b"h\x00" * 100_000 + b"e."),
        "memo": archive(b"\x80\x02]" + b"".join(b"r" + struct.pack("<I", i * 4001) for i in range(100_000)) + b"."),
        "long_text": archive(b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x" * 100),
        "long_bytes": archive(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x" * 100),
        "huge_number": archive(b"\x80\x02\x8b" + struct.pack("<i", 2_000_000) + b"\x7f" * 2_000_000 + b"."),
        "digits": archive(b"\x80\x02L" + b"9" * 2_000_000 + b"L\n."),
        "equal_hashes": archive(
            b"\x80\x02}("
            + b"".join(b"\x8a\x0b" + ((2**61 - 1) * i).to_bytes(11, "little") + b"N" for i in range(1, 60_000))
            + b"u."
        ),
        "long_pickle": archive(b"\x80\x02" + b"K\x010" * 2_000_000 + b"."),
        "parts": archive(b"\x80\x02}.", ("x/data/0", b"PK\x01\x02" * 100_100)),
        "packed": packed.getvalue(),
        "wide": archive(tensor_of((2**40,), (1,), 2**40), STORED),
        "expanded": archive(tensor_of((2**20, 2**20), (0, 0)), STORED),
        "many_sizes": archive(tensor_of((2**60,) * 12, (0,) * 12), STORED),
        "beyond": archive(tensor_of((4,), (2,)), STORED),
        "offset": archive(tensor_of((4,), (1,), offset=1), STORED),
        "negative": archive(tensor_of((-4,), (1,)), STORED),
        "negative_stride": archive(tensor_of((4,), (-1,), offset=3), STORED),
        "large_storage": archive(tensor_of((4,), (1,), 2**50), STORED),
        "no_storage": archive(tensor_of((4,), (1,))),
        "shared": archive(
            b"\x80\x02}("
            + b"".join(b"X\x05\x00\x00\x00%05d" % i + tensor_of((50_000,), (1,), 50_000)[9:-2] for i in range(4_000))
            + b"u.",
            ("x/data/0", bytes(200_000)),
        ),
    }


WATCHED = """
import resource, sys, time
from pathlib import Path
from foveate.errors import WeightsError
from foveate.zoo.tensors import read_tensors
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
base, slow = used(), []
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        read_tensors(path)
    except WeightsError as error:
        assert path.name in str(error) and "\\n" not in str(error) and len(str(error)) < 500, error
    else:
        print("READ", path.name)
    if time.process_time() - start > 5:
        print("SLOW", path.name)
print("MB", used() - base)
"""


def test_small_files_that_stand_for_much_are_refused_in_bounded_memory_and_time(tmp_path):
    for name, data in bombs().items():
        (tmp_path / f"{name}.pt").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, memory = done.stdout.splitlines()
    assert wrong == []
    assert int(memory.split()[1]) < 500


def test_the_bombs_are_well_formed(tmp_path):
    """The tensor that the attacks change is read when it is honest."""
    (tmp_path / "good.pt").write_bytes(archive(tensor_of((2, 2), (2, 1)), STORED))
    assert torch.equal(read_tensors(tmp_path / "good.pt")["a"], torch.zeros(2, 2))
    assert len(pickle.loads(b"\x80\x02" + BYTES + b"](" + ONE * 3 + b"e.")) == 3
    assert os.path.getsize(tmp_path / "good.pt") < 1000


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_download_that_was_cut_off_is_refused(cut, legacy, tmp_path):
    data = saved(tmp_path / "w.pt", STATE, legacy=legacy).read_bytes()
    (tmp_path / "w.pt").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(WeightsError, match=r"w\.pt"):
        read_tensors(tmp_path / "w.pt")
