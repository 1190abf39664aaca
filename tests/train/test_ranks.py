"""Two gloo processes train as one does."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from test_loop import PLAIN, P, pictures
from test_step import STILL
from torch import nn
from two_processes import in_two_processes

from foveate.config import replace
from foveate.data.load import evaluation_pictures
from foveate.runs.setup import make_state
from foveate.train import checkpoint, ranks
from foveate.train.evaluate import predict_logits, shared_logits
from foveate.train.loop import train
from foveate.train.state import State
from foveate.train.step import Moment, Task, gradient
from foveate.zoo import build

BATCH = 7  # the shares of two processes differ by one


class Exact(nn.Module):
    """A network in float64."""

    def __init__(self):
        super().__init__()
        self.inner, self.config = build(STILL).double(), None

    def forward(self, x):
        return self.inner(x.double())


def one_step(rank, world):
    torch.manual_seed(0)
    recipe = replace(PLAIN, batch=BATCH, augment=replace(PLAIN.augment, flip=True, colour=0.3))
    state = State(Exact(), None, recipe, ("inner.fc.",), "cpu")
    state.join()
    item = next(pictures().epoch(0, 0, BATCH, share=(rank, world)))
    gradient(state, item, Moment(0, 0, 0.0), Task(recipe, P, 3, 24))
    found = {n: p.grad for n, p in state.model.named_parameters()}
    found["samples"] = torch.from_numpy(item.samples)
    return found


def test_two_processes_give_the_gradient_of_one(both):
    a, b, alone = both["step"][0], both["step"][1], one_step(0, 1)
    assert torch.equal(torch.cat([a["samples"], b["samples"]]), alone.pop("samples"))
    for name, grad in alone.items():
        assert torch.equal(a[name], b[name])
        assert (a[name] - grad).abs().max() <= 1e-6 * grad.abs().max() + 1e-12, name


def trained(recipe):
    state = make_state(STILL, recipe, "cpu")
    losses = [float(s.loss) for s in train(state, pictures(), P, recipe, 3)]
    logits = shared_logits(state.best, evaluation_pictures(pictures().split, P).load(), P)
    return {"losses": torch.tensor(losses), "logits": torch.from_numpy(logits), **state.model.state_dict()}


def test_a_training_in_two_processes_is_the_training_in_one(both):
    (a, b), alone = both["training"], trained(replace(PLAIN, ema=0.9))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.allclose(a["losses"], alone["losses"], rtol=1e-3)
    assert torch.allclose(a["logits"], alone["logits"], atol=1e-2)


def resumed(folder):
    recipe = replace(PLAIN, ema=0.9)
    state = make_state(STILL, recipe, "cpu")
    checkpoint.restore(folder / "state", state, print)
    return {"losses": torch.tensor([float(s.loss) for s in train(state, pictures(), P, recipe, 3)])}


def test_two_processes_go_on_where_one_stopped_with_the_same_samples(both):
    (a, b), rest = both["resumed"], both["rest"]
    assert len(rest) == 4 and torch.equal(a["losses"], b["losses"])
    assert torch.allclose(a["losses"], rest, rtol=1e-3)


def evaluation_of_rank(rank):
    torch.manual_seed(rank)  # running statistics of rank 0 count
    model = build(replace(STILL, layers=replace(STILL.layers, norm="batch_norm")))
    torch.manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.2)
    torch.manual_seed(rank)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    held = evaluation_pictures(pictures(11).split, P).load()
    return {"logits": torch.from_numpy(shared_logits(model, held, P)), "state": model.state_dict()}


def test_a_shared_evaluation_is_exact_to_the_sample(both):
    a, b = both["evaluation"]
    model = build(replace(STILL, layers=replace(STILL.layers, norm="batch_norm")))
    model.load_state_dict(a["state"])
    expected = predict_logits(model, evaluation_pictures(pictures(11).split, P).load(), P)
    assert torch.equal(a["logits"], b["logits"]) and len(expected) == 11
    assert np.abs(a["logits"].numpy() - expected).max() < 1e-5


def of_rank(folder, rank):
    """All that the tests ask of two processes: they take seconds to start."""
    return {
        "step": one_step(rank, 2),
        "training": trained(replace(PLAIN, ema=0.9)),
        "resumed": resumed(folder),
        "evaluation": evaluation_of_rank(rank),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Name -> what each of two processes found; "rest": the losses of one process after the step where they begin."""
    folder = tmp_path_factory.mktemp("ranks")
    state = make_state(STILL, replace(PLAIN, ema=0.9), "cpu")
    steps = train(state, pictures(), P, replace(PLAIN, ema=0.9), 3)
    for _ in range(2):
        next(steps)
    (folder / "state").mkdir()
    checkpoint.save(folder / "state", state, checkpoint.Progress())
    rest = torch.tensor([float(s.loss) for s in steps])
    a, b = in_two_processes(partial(of_rank, folder), folder)
    return {name: (a[name], b[name]) for name in a} | {"rest": rest}


def test_one_process_is_the_world():
    assert (ranks.rank(), ranks.world()) == (0, 1)
    assert ranks.agreed({"a": 1}) == {"a": 1} and ranks.highest(3, torch.device("cpu")) == 3
    assert ranks.dealt(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "foveate", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.timeout(240)
def test_torchrun_trains_and_rank_0_alone_writes_and_speaks(tmp_path):
    arguments = ("train", "digits", "--model", "resnet20_cifar", "--epochs", "2", "--json", "threads=1")
    run = torchrun(tmp_path, *arguments, "preprocess.resolution=8", "precision=fp32", "layout=nchw", "batch=256")
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    assert 0 <= json.loads(out)["test_accuracy"] <= 1  # one object: rank 0 alone speaks
    folder = tmp_path / "runs" / "digits-1"
    assert (folder / "best" / "model.onnx").is_file()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
