"""Every optimiser goes on from a checkpoint to the bit, in both memory layouts."""

import pytest
import torch
from trajectory import groups, loss_of, plain, tiny, train

from foveate.config import make
from foveate.train.checkpoint import Progress, restore, save
from foveate.train.loop import State
from foveate.train.optimizers.lamb import make_lamb
from foveate.train.optimizers.lars import make_lars
from foveate.train.optimizers.muon import make_muon
from foveate.train.optimizers.plain import make_adamw, make_sgd
from foveate.train.optimizers.rmsprop_tf import make_rmsprop_tf
from foveate.train.optimizers.schedule_free import make_schedule_free_adamw, make_schedule_free_sgd
from foveate.train.optimizers.slots import keep_layout
from foveate.train.recipe import Optim, Recipe

LR = 0.02
OURS = {
    "lamb": make_lamb,
    "lars": make_lars,
    "rmsprop_tf": make_rmsprop_tf,
    "muon": make_muon,
    "schedule_free_sgd": make_schedule_free_sgd,
    "schedule_free_adamw": make_schedule_free_adamw,
    "sgd": make_sgd,
    "adamw": make_adamw,
}
CALLS = [*OURS, 'muon(rest="sgd")', 'muon(products="float32", filter_norm=True)', "rmsprop_tf(centered=True)"]
PYTORCHS = {
    "RMSprop": lambda g: torch.optim.RMSprop(g, lr=LR, momentum=0.9, centered=True, foreach=True),
    "Adam": lambda g: torch.optim.Adam(g, lr=LR, amsgrad=True, foreach=True),
    "NAdam": lambda g: torch.optim.NAdam(g, lr=LR, foreach=True),
}


def state_with(optimizer, seed, layout):
    model = tiny(seed, torch.float32)
    state = State(model, None, Recipe(layout=layout), ("fc.",), "cpu")
    state.optimizer = keep_layout(optimizer(groups(model, 0.05)))
    return state


def order(x):
    """The strides that mean something: a side of one has any."""
    return [stride for side, stride in zip(x.shape, x.stride(), strict=True) if side > 1]


def assert_resumes(optimizer, layout, folder):
    straight, first = state_with(optimizer, 0, layout), state_with(optimizer, 0, layout)
    train(straight.model, straight.optimizer, LR, 0, 9)
    train(first.model, first.optimizer, LR, 0, 4)
    first.step = 4
    save(folder, first, Progress())
    second = state_with(optimizer, 1, layout)
    restore(folder, second, pytest.fail)
    train(second.model, second.optimizer, LR, second.step, 9)
    for (name, a), b in zip(straight.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    slots = straight.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
    assert slots[0].keys() == slots[1].keys() and slots[0]
    for index, wanted in slots[0].items():
        assert wanted.keys() == slots[1][index].keys()
        for name, value in wanted.items():
            got = slots[1][index][name]
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, got) and order(value) == order(got), (index, name)
            else:
                assert value == got and type(value) is type(got), (index, name)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("call", CALLS)
def test_ours_go_on_to_the_bit(call, layout, tmp_path):
    assert_resumes(lambda g: make(OURS, call, "optimiser", g, Optim(lr=LR)), layout, tmp_path)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("name", PYTORCHS)
def test_pytorchs_go_on_to_the_bit(name, layout, tmp_path):
    assert_resumes(lambda g: PYTORCHS[name](plain(g)), layout, tmp_path)


def test_pytorchs_muon_too(tmp_path):
    class Halves(torch.optim.Muon):
        """Of matrices only, which is all that it takes."""

    assert_resumes(
        lambda g: Halves([p for group in g for p in group["params"] if p.ndim == 2], lr=LR), "nchw", tmp_path
    )


@pytest.mark.parametrize("call", CALLS)
def test_a_parameter_without_gradient_stays_and_has_no_slots(call):
    model = tiny(dtype=torch.float32)
    made = make(OURS, call, "optimiser", groups(model, 0.05), Optim(lr=LR))
    loss_of(model, 0).backward()
    before = model.hidden.weight.detach().clone()
    model.hidden.weight.grad = None
    made.step()
    assert torch.equal(model.hidden.weight, before)
    assert not made.state.get(model.hidden.weight)
    train(model, made, LR, 1, 3)  # and it may have one later
    assert not torch.equal(model.hidden.weight, before)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_fused_steps_are_the_plain_ones_whatever_layout_a_gradient_has(kind):
    """A fused optimiser on a CPU reads memory side by side, and takes a number for another where layouts differ."""
    draw, optim = torch.Generator().manual_seed(0), Optim(momentum=0.9, nesterov=True)
    first = torch.randn(8, 6, 3, 3, dtype=torch.float64, generator=draw).contiguous(memory_format=torch.channels_last)
    ours, theirs = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    sgd = kind is torch.optim.SGD
    mine = (make_sgd if sgd else make_adamw)([{"params": [ours], "lr": LR, "weight_decay": 0.05}], optim)
    options = {"momentum": 0.9, "nesterov": True} if sgd else {"betas": (0.9, optim.beta2)}
    plainly = kind([theirs], lr=LR, weight_decay=0.05, foreach=False, **options)
    for _ in range(3):
        g = torch.randn(8, 6, 3, 3, dtype=torch.float64, generator=draw)
        ours.grad, theirs.grad = g.clone(), g.clone()
        mine.step()
        plainly.step()
    assert ours.grad.stride() == ours.stride()
    assert (ours - theirs).abs().max() < 1e-12 < 1e-3 < (ours - first).abs().max()
