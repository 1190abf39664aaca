"""The gradient of a batch: in parts, with auxiliary heads, with a teacher, when memory or numbers run out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_loop import CONFIG, PLAIN, P, pictures
from torch import nn

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise_unit
from foveate.errors import ConfigError, FoveateError
from foveate.files import write_folder
from foveate.layers import Layers
from foveate.runs.setup import make_state
from foveate.train.artefact import ModelCard, model_files
from foveate.train.loop import train
from foveate.train.recipe import Loss, Mix, Optim
from foveate.train.step import Moment, Task, gradient
from foveate.train.teacher import load_teacher
from foveate.zoo import build

STILL = replace(CONFIG, layers=Layers(norm="group_norm(groups=4)"))  # no statistics of the batch
START = Moment(0, 0, 0.0)


def gradients(recipe, config=STILL, batch=None, teacher=None):
    state = make_state(config, recipe, "cpu")
    state.teacher = teacher
    item = batch or next(pictures().epoch(0, 0, 8))
    loss, correct = gradient(state, item, START, Task(recipe, P, 3, 24))
    return {n: p.grad for n, p in state.model.named_parameters()}, float(loss), int(correct)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts):
    whole, loss, correct = gradients(PLAIN)
    split, split_loss, split_correct = gradients(replace(PLAIN, parts=parts))
    assert split_loss == pytest.approx(loss, rel=1e-5) and split_correct == correct
    for name, grad in whole.items():
        assert torch.allclose(split[name], grad, rtol=1e-3, atol=1e-6), name


class TwoHeads(nn.Module):
    """A network with an auxiliary head, as the zoo's are."""

    def __init__(self):
        super().__init__()
        self.fc, self.side = nn.Linear(3, 3), nn.Linear(3, 3)
        self.config = None

    def forward(self, x):
        return self.fc(x.mean((2, 3)))

    def forward_aux(self, x):
        return self.forward(x), [self.side(x.mean((2, 3)))]


def test_auxiliary_heads_add_their_weighted_loss():
    from foveate.train.state import State

    item = next(pictures().epoch(0, 0, 8))
    x = normalise_unit(item.pictures / 255, P)
    for weight in (0.0, 0.3):
        torch.manual_seed(0)
        recipe = replace(PLAIN, loss=Loss(aux=weight))
        model = TwoHeads()
        state = State(model, None, recipe, ("fc.",), "cpu")
        loss, _ = gradient(state, item, START, Task(recipe, P, 3, 24))
        main, (side,) = model.forward_aux(x)
        expected = F.cross_entropy(main, item.labels) + weight * F.cross_entropy(side, item.labels)
        assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
        assert (model.side.weight.grad is None) == (weight == 0.0)


def teacher_folder(tmp_path, classes=("b", "a", "c")):
    torch.manual_seed(5)
    model, p = build(CONFIG).eval(), Preprocess(resolution=20, resize=20, fit="squash", mean=(0.1, 0.2, 0.3))
    write_folder(tmp_path / "teacher", model_files(ModelCard(CONFIG, classes, p, {}), model.state_dict()))
    return model, p


def test_a_teacher_adds_its_term_with_its_own_input_and_class_order(tmp_path):
    model, p = teacher_folder(tmp_path)
    recipe = replace(PLAIN, loss=Loss(temperature=4.0, distill=0.5))
    teacher = load_teacher(str(tmp_path / "teacher"), ("a", "b", "c"), "cpu")
    item = next(pictures().epoch(0, 0, 8))
    _, loss, _ = gradients(recipe, batch=item, teacher=teacher)
    _, plain, _ = gradients(PLAIN, batch=item)
    x = item.pictures / 255
    with torch.no_grad():
        large = F.interpolate(x, size=20, mode="bilinear", antialias=True)
        taught = model(normalise_unit(large, p))[:, [1, 0, 2]]
        z = make_state(STILL, PLAIN, "cpu").model.train()(normalise_unit(x, P))
    soft = (taught / 4).softmax(1)
    expected = plain + 0.5 * 16 * float((soft * (soft.log() - (z / 4).log_softmax(1))).sum(1).mean())
    assert loss == pytest.approx(expected, rel=1e-5)


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    teacher_folder(tmp_path, ("a", "b", "x"))
    with pytest.raises(ConfigError, match="its classes are not those of the data"):
        load_teacher(str(tmp_path / "teacher"), ("a", "b", "c"), "cpu")
    with pytest.raises(ConfigError, match="no model folder there"):
        load_teacher(str(tmp_path / "nobody"), ("a", "b", "c"), "cpu")


class Small(nn.Module):
    """A network on a device that holds at most `most` pictures."""

    def __init__(self, inner, most):
        super().__init__()
        self.inner, self.most, self.config = inner, most, None

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("injected")
        return self.inner(x)


def starved(most, recipe=PLAIN):
    from foveate.train.state import State

    torch.manual_seed(recipe.seed)
    return State(Small(build(STILL), most), None, recipe, ("inner.fc.",), "cpu")


def test_a_batch_that_is_too_large_is_halved_and_the_effective_batch_stays():
    state, free = starved(3), make_state(STILL, PLAIN, "cpu")
    losses = [float(s.loss) for s in train(state, pictures(), P, PLAIN, 3)]
    assert state.parts == 4
    assert losses == pytest.approx([float(s.loss) for s in train(free, pictures(), P, PLAIN, 3)], rel=1e-3)


def test_memory_for_no_picture_at_all_is_said_in_one_line():
    with pytest.raises(FoveateError, match="not enough memory for 1 of 8 pictures at 16 pixels"):
        next(train(starved(0), pictures(), P, PLAIN, 3))


class Spoilt(nn.Module):
    """A network whose logits are NaN in the steps of a set."""

    def __init__(self, inner, bad):
        super().__init__()
        self.inner, self.bad, self.calls, self.config = inner, bad, 0, None

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (float("nan") if self.calls in self.bad else 1.0)


def test_steps_without_a_finite_loss_are_passed_over_and_too_many_in_a_row_stop():
    from foveate.train.state import State

    recipe = replace(PLAIN, skip_steps=1)
    state = State(Spoilt(build(STILL), {2, 4, 5}), None, recipe, ("inner.fc.",), "cpu")
    steps = train(state, pictures(), P, recipe, 3)
    next(steps)
    before = {n: p.clone() for n, p in state.model.named_parameters()}
    second = next(steps)
    assert second.skipped and len(second.samples) == 8
    assert all(torch.equal(p, before[n]) for n, p in state.model.named_parameters())
    third = next(steps)
    assert not third.skipped and state.skipped == 0
    assert next(steps).skipped
    with pytest.raises(FoveateError, match="the loss is nan at step 5"):
        next(steps)


def test_progressive_resizing_grows_in_multiples_of_four():
    task = Task(replace(PLAIN, resolution=224, grow_from=0.5, grow_until=0.8), P, 3, 24)
    sizes = [task.size(t) for t in np.linspace(0, 1, 101)]
    assert sizes[0] == 112 and sizes[40] == 168 and sizes[80:] == [224] * 21
    assert all(s % 4 == 0 for s in sizes) and sizes == sorted(sizes)
    assert Task(PLAIN, P, 3, 24).size(0.0) == 16


def test_half_precision_with_a_loss_scale_follows_float32():
    recipe = replace(PLAIN, precision="fp16", optim=Optim(lr=0.01))
    full, state = replace(recipe, precision="fp32"), make_state(STILL, recipe, "cpu")
    half = [float(s.loss) for s in train(state, pictures(), P, recipe, 3)]
    steps = train(make_state(STILL, full, "cpu"), pictures(), P, full, 3)
    assert 2.0**12 <= state.scaler.get_scale() <= 2.0**16  # it starts at 2 ** 16 and is halved where it overflows
    assert all(p.dtype == torch.float32 for p in state.model.parameters())
    assert half[0] == pytest.approx(float(next(steps).loss), abs=0.01) and np.isfinite(half).all()


def test_plain_mixing_is_unchanged_by_the_number_of_parts_of_one():
    recipe = replace(PLAIN, mix=Mix(mixup=0.4))
    a = [float(s.loss) for s in train(make_state(STILL, recipe, "cpu"), pictures(), P, recipe, 3)]
    b = [float(s.loss) for s in train(make_state(STILL, recipe, "cpu"), pictures(), P, recipe, 3)]
    assert a == b
