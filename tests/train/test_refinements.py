"""Refinements inside the loop: each does in a run what its own file says."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_loop import CONFIG, PLAIN, P, pictures
from test_step import STILL

from foveate.config import replace
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import prepare as prepare_picture
from foveate.deploy.predictor import pixels_of
from foveate.errors import ConfigError
from foveate.runs.plan import prepare
from foveate.runs.setup import make_state, stored_pictures
from foveate.train.best import ready_best
from foveate.train.check import checked
from foveate.train.clipping import unit_norm
from foveate.train.loop import train
from foveate.train.optimizers import OPTIMIZERS
from foveate.train.recipe import Augment, Optim

EPOCHS = replace(PLAIN, epochs=8)


def run(recipe, config=STILL, steps=None):
    state = make_state(config, recipe, "cpu")
    losses = []
    for step in train(state, pictures(), P, recipe, 3):
        losses.append(float(step.loss))
        if step.number == steps:
            break
    return state, losses


RATES = {"muon": 0.02, "lamb": 0.01, "lars": 2.0, "adamw": 3e-3, "rmsprop_tf": 1e-3, "schedule_free_adamw": 0.01}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns_pictures_by_heart(name):
    recipe = replace(EPOCHS, epochs=20, optim=Optim(name=name, lr=RATES.get(name, 0.1)), norm_batches=2)
    _, losses = run(checked(recipe))
    assert losses[-1] < 0.9 * losses[0]


def test_sam_takes_the_gradient_at_the_worst_point_nearby():
    recipe = replace(
        PLAIN, optim=Optim(lr=0.1, momentum=0.0, weight_decay=0.0, sam=0.05), schedule=replace(PLAIN.schedule, warmup=0)
    )
    state, _ = run(recipe, steps=1)
    model, item = make_state(STILL, recipe, "cpu").model.train(), next(pictures().epoch(0, 0, 8))
    mean, std = torch.tensor(P.mean).view(3, 1, 1), torch.tensor(P.std).view(3, 1, 1)

    def gradient():
        model.zero_grad()
        torch.nn.functional.cross_entropy(model((item.pictures / 255 - mean) / std), item.labels).backward()
        return [p.grad.clone() for p in model.parameters()]

    first, start = gradient(), [p.detach().clone() for p in model.parameters()]
    norm = torch.cat([g.flatten() for g in first]).norm()
    with torch.no_grad():
        for p, g in zip(model.parameters(), first, strict=True):
            p += 0.05 * g / norm
    for p, s, g in zip(state.model.parameters(), start, gradient(), strict=True):
        assert torch.allclose(p, s - 0.1 * g, atol=1e-5)


def test_statistics_follow_the_first_pass_of_sam_alone():
    plain, _ = run(PLAIN, CONFIG, steps=1)
    sharp, _ = run(replace(PLAIN, optim=replace(PLAIN.optim, sam=0.5)), CONFIG, steps=1)
    assert torch.equal(plain.model.bn1.running_mean, sharp.model.bn1.running_mean)
    assert not torch.equal(plain.model.conv1.weight, sharp.model.conv1.weight)


def test_adaptive_clipping_leaves_the_classifier():
    recipe = replace(PLAIN, optim=replace(PLAIN.optim, agc=1e-3, weight_decay=0.0, momentum=0.0))
    state, _ = run(recipe, steps=1)
    plain, _ = run(replace(recipe, optim=replace(recipe.optim, agc=0.0)), steps=1)
    assert torch.allclose(state.model.fc.weight.grad, plain.model.fc.weight.grad)
    start = make_state(STILL, recipe, "cpu").model.conv1.weight.detach()
    grad = state.model.conv1.weight.grad
    assert (unit_norm(grad) <= 1.001e-3 * unit_norm(start).clamp(min=1e-3)).all()


def test_lookahead_ends_on_its_slow_weights():
    state, _ = run(replace(PLAIN, optim=replace(PLAIN.optim, lookahead=4)))
    for p, slow in zip(state.lookahead.fast, state.lookahead.slow, strict=True):
        assert torch.equal(p, slow)


def test_a_schedule_free_run_is_judged_at_its_average_with_fresh_statistics():
    optim = Optim(name="schedule_free_sgd", lr=0.1)
    recipe = checked(replace(EPOCHS, optim=optim, norm_batches=3))
    state, _ = run(recipe, CONFIG)
    best = ready_best(state, pictures(), P, recipe, 3)
    assert best is state.shadow
    wanted = state.optimizer.average()
    for p, q in zip(state.model.parameters(), best.parameters(), strict=True):
        assert torch.equal(q, wanted[p])
    assert not torch.allclose(best.bn1.running_mean, state.model.bn1.running_mean)
    again = {n: b.clone() for n, b in best.named_buffers()}
    ready_best(state, pictures(), P, recipe, 3)
    assert all(torch.equal(b, again[n]) for n, b in best.named_buffers())
    with pytest.raises(ConfigError, match="norm_batches"):
        checked(replace(recipe, norm_batches=0))


def test_the_average_may_be_updated_every_few_steps():
    state, _ = run(replace(PLAIN, ema=0.9, ema_every=4))
    assert state.average.count == 1  # six steps


def test_alternating_flips_and_repeats_reach_the_loop():
    seen = []
    for augment in (Augment(flip=False), Augment(flip=False, alternate=True), Augment(flip=False, repeats=2)):
        seen.append(run(replace(PLAIN, augment=augment), steps=2)[1])
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_crops_cut_while_reading_train_and_prediction_decodes_at_the_same_scale(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train", "val", "test"):
        for i in range(12):
            path = tmp_path / "photos" / name / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)).resize((400, 300)).save(path)
    changes = ("decode=cut", "epochs=1", "batch=4", "preprocess.resolution=32", "precision=fp32", "layout=nchw")
    plan, dataset = prepare(tmp_path / "photos", "resnet20_cifar", recipe="baseline", overrides=changes)
    assert plan.preprocess.decode == "scaled"
    pictures = stored_pictures(dataset.splits["train"], plan, 36)
    assert pictures.crop is not None and pictures.resident is None
    state = make_state(replace(CONFIG, num_classes=2), plan.recipe, "cpu")
    assert len([*train(state, pictures, plan.preprocess, plan.recipe, 2)]) == 3
    path = dataset.splits["test"].paths[0]
    seen = evaluation_pictures(dataset.splits["test"], plan.preprocess).gather([0]).pictures[0]
    expected = prepare_picture(pixels_of(path, plan.preprocess), plan.preprocess)
    assert np.array_equal(seen.permute(1, 2, 0).numpy(), expected)
    assert not np.array_equal(pixels_of(path), pixels_of(path, plan.preprocess))
