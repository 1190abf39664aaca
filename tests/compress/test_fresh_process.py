"""A smaller network of every family as another process meets it: a folder that loads, exports and goes on learning."""

import json
import math
import subprocess
import sys

import pytest
import torch
from prunable import PLUGS, SIDES, prunable
from safetensors.torch import save_file

from foveate.compress.check import unsettle
from foveate.compress.narrow import narrow
from foveate.compress.plan import random_plan
from foveate.compress.slice import mask, slice_state
from foveate.data.preprocess import Preprocess
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import FAMILIES, build

CLASSES = tuple("abcde")
# How far two float32 passes of one network may be apart, for the order of their sums changes with the place of tensors
# in memory: convolutions * fan-in is at most 34 * 144 (mobilenet; 97 * 36 for attention), each sum rounded to 2^-24 in
# each of the two, errors without a common sign; six times their root mean square, for it is the largest of 20 logits.
APART = 6 * 2**-24 * math.sqrt(2 * 34 * 144)  # 3.5e-5
CHILD = """
import json, pathlib, sys
import numpy as np, onnxruntime, torch
from safetensors.torch import load_file
from foveate.deploy.export import export_for_timing
from foveate.train.artefact import load_model

torch.set_num_threads(1)
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model, card = load_model(folder / "model")
    seen = load_file(folder / "seen.safetensors")
    p, pixels = card.preprocess, seen["pixels"]
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    with torch.no_grad():
        loaded = model(x)
    others = [seen["masked"]]
    if sys.argv[2] == "exported":
        onnx = export_for_timing(model, p, len(x))
        session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        others.append(torch.from_numpy(session.run(["logits"], {"image": pixels.numpy()})[0]))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    torch.nn.functional.cross_entropy(model(x), torch.arange(len(x)) % 5).backward()
    learning = [q for q in model.parameters() if q.requires_grad]
    learnt = all(q.grad is not None and bool(q.grad.isfinite().all()) for q in learning)
    optimizer.step()
    learnt = learnt and all(bool(q.isfinite().all()) for q in learning)
    scale = max(1.0, float(loaded.abs().max()))
    apart = [float((other - loaded).abs().max()) / scale for other in others]
    print(json.dumps([folder.name, learnt, *apart]), flush=True)
"""


@torch.no_grad()
def saved(folder, config, seed):
    """A model folder of the network without the plan's channels, and what the masked one answers to some pictures."""
    plan = random_plan(config, seed)
    whole = unsettle(build(config), seed).eval()
    side = SIDES.get(config.family, 32)
    p = Preprocess(resolution=side, resize=side, fit="squash")
    card = ModelCard(narrow(config, plan), CLASSES, p, {})
    write_folder(folder / "model", model_files(card, slice_state(config, whole.state_dict(), plan)))
    mask(whole, plan)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (4, side, side, 3), generator=generator, dtype=torch.uint8)
    mean, std = torch.tensor(p.mean).view(3, 1, 1), torch.tensor(p.std).view(3, 1, 1)
    masked = whole((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    save_file({"pixels": pixels, "masked": masked}, folder / "seen.safetensors")


@pytest.mark.parametrize(("plug", "what"), [("plain", "exported"), ("ws", "loaded")])  # exports take most of the time
def test_every_family_loads_exports_and_learns_in_a_fresh_process(plug, what, tmp_path):
    for family in FAMILIES:
        (tmp_path / family).mkdir()
        saved(tmp_path / family, prunable(family, PLUGS[plug]), 1)
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path), what]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300)
    rows = {name: rest for name, *rest in map(json.loads, child.stdout.splitlines())}
    assert rows.keys() == set(FAMILIES), f"{len(rows)} families, then: {child.stderr[-800:]}"
    assert all(len(rest) == (3 if what == "exported" else 2) for rest in rows.values())
    wrong = {n: r for n, r in rows.items() if not (r[0] and r[1] <= APART and r[-1] <= 1e-4)}
    assert not wrong, "family: [learnt, masked - loaded, exported - loaded]"
