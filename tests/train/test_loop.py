"""The training loop against a hand-written one, and its refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.config import replace
from foveate.data.index import Split
from foveate.data.load import training_pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import FoveateError
from foveate.layers.drop import DropBlock
from foveate.runs.setup import make_state
from foveate.train.loop import train
from foveate.train.optim import learning_rate
from foveate.train.recipe import Augment, Loss, Optim, Recipe, Schedule
from foveate.zoo import build, variant

P = Preprocess(resolution=16, resize=16, fit="squash")
CONFIG = replace(variant("resnet20_cifar"), num_classes=3)
PLAIN = Recipe(
    epochs=2,
    batch=8,
    optim=Optim(lr=0.1, weight_decay=1e-3),
    schedule=Schedule(warmup=1.0),
    augment=Augment(flip=False),
    precision="fp32",
    layout="nchw",
)


def pictures(n=24, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return training_pictures(Split(tuple(map(str, range(n))), tuple(i % 3 for i in range(n)), pixels), 16).load()


def test_plain_training_equals_a_hand_written_loop_with_torch_sgd():
    data, state = pictures(), make_state(CONFIG, PLAIN, "cpu")
    losses = [float(s.loss) for s in train(state, data, P, PLAIN, 3)]

    torch.manual_seed(PLAIN.seed)
    model = build(CONFIG).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, 0.1, 0.9, nesterov=True)
    mean, std = torch.tensor(P.mean).view(3, 1, 1), torch.tensor(P.std).view(3, 1, 1)
    expected, step = [], 0
    for epoch in range(2):
        for batch in data.epoch(0, epoch, 8):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(PLAIN.schedule, 0.1, step, 6, 3)
            loss = F.cross_entropy(model((batch.pictures / 255 - mean) / std), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
            step += 1
    assert losses == pytest.approx(expected, rel=1e-4)


def test_smoothed_loss_is_torchs():
    data, recipe = pictures(), replace(PLAIN, loss=Loss(smoothing=0.2))
    first = next(train(make_state(CONFIG, recipe, "cpu"), data, P, recipe, 3))
    model, batch = make_state(CONFIG, recipe, "cpu").model.train(), next(data.epoch(0, 0, 8))
    x = (batch.pictures / 255 - torch.tensor(P.mean).view(3, 1, 1)) / torch.tensor(P.std).view(3, 1, 1)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(model(x), batch.labels)
    assert first.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_rate():
    state = make_state(CONFIG, PLAIN, "cpu")
    with torch.no_grad():
        state.model.fc.weight[0, 0] = torch.nan
    with pytest.raises(FoveateError, match=r"the loss is nan at step 1; lower optim\.lr \(now 0\.1\)"):
        next(train(state, pictures(), P, PLAIN, 3))


def test_frozen_norms_keep_their_statistics():
    recipe = replace(PLAIN, frozen_norms=True, epochs=1, optim=Optim(lr=1e-4))
    state = make_state(CONFIG, recipe, "cpu")
    before = {n: b.clone() for n, b in state.model.named_buffers()}
    for _ in train(state, pictures(), P, recipe, 3):
        pass
    assert all(torch.equal(b, before[n]) for n, b in state.model.named_buffers() if "progress" not in n)


def test_zero_gamma_keeps_the_shortcut_path_at_the_start():
    model = build(replace(CONFIG, zero_gamma=True)).eval()
    block = model.layer1[1]
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.allclose(block(x), x)


def test_drop_rates_that_grow_know_how_much_of_the_training_is_over():
    state, drop = make_state(CONFIG, PLAIN, "cpu"), DropBlock()
    state.model.bn1 = nn.Sequential(state.model.bn1, drop)
    seen = [float(drop.progress) for _ in train(state, pictures(), P, PLAIN, 3)]
    assert seen == pytest.approx([i / 6 for i in range(6)])


SMALL = Preprocess(resolution=4, resize=4, fit="squash")  # the last map of the network is one position


def files(folder, bad=()):
    """Four pictures of two classes in files, some of them unreadable since they were listed."""
    from PIL import Image

    paths = [folder / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(path)
        if i in bad:
            path.write_bytes(path.read_bytes()[:40])
    found = training_pictures(Split(tuple(map(str, paths)), (0, 1, 0, 1), None), 4)
    found.bad_files = "skip"
    return found


@pytest.mark.parametrize("model", ["resnet20_cifar", "mobilenetv3_small_050"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_picture_that_is_left_alone_in_its_batch_takes_running_statistics(parts, model, tmp_path):
    """Bad files may leave one of a batch, or a part of it, and a norm sees no spread in one value a channel."""
    recipe = replace(PLAIN, epochs=1, batch=4, parts=parts)
    state = make_state(replace(variant(model), num_classes=2), recipe, "cpu")
    steps = list(train(state, files(tmp_path, bad=(1, 2, 3) if parts == 1 else (1,)), SMALL, recipe, 2))
    assert state.alone and all(torch.isfinite(step.loss) for step in steps)
    assert all(m.training for m in state.model.modules())
    again = make_state(replace(variant(model), num_classes=2), recipe, "cpu")
    assert [
        float(s.loss) for s in train(again, files(tmp_path, bad=(1, 2, 3) if parts == 1 else (1,)), SMALL, recipe, 2)
    ] == [float(s.loss) for s in steps]


def test_memory_that_halves_a_batch_down_to_single_pictures_trains_on_and_says_so(tmp_path, monkeypatch):
    from foveate.train import engine, step

    real, said = step._loss, []

    def scarce(state, x, *more):
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(state, x, *more)

    monkeypatch.setattr(step, "_loss", scarce)
    recipe = replace(PLAIN, epochs=1, batch=4)
    state, data = make_state(replace(CONFIG, num_classes=2), recipe, "cpu"), files(tmp_path)
    job = engine.Job("x", data, data, SMALL, recipe, ("a", "b"), {}, workers=0)
    engine.run_epochs(state, job, engine.Progress(), said.append, lambda: None)
    texts = [event.text for event in said if hasattr(event, "text")]
    assert state.alone == 4 and any("4 parts" in t for t in texts) and any("a picture was alone" in t for t in texts)
