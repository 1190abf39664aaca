"""Every optimiser of the table keeps what PyTorch's promise of one: closures, later groups, states, copies."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from foveate.config import make
from foveate.train.optim import make_optimizer, set_lr
from foveate.train.optimizers import OPTIMIZERS
from foveate.train.recipe import Optim
from foveate.zoo import build
from foveate.zoo.families import FAMILIES

OPTIM = Optim(lr=0.01, weight_decay=0.01)


class Net(nn.Module):
    """A kernel, its norm, and a classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1] * 4)


def groups(net, *, decay=0.01):
    """As train/optim.py gives them."""
    matrices = [net.conv.weight]
    others = [net.conv.bias, *net.norm.parameters()]
    return [
        {"params": matrices, "weight_decay": decay, "head": False, "factor": 1.0},
        {"params": others, "weight_decay": 0.0, "head": False, "factor": 1.0},
    ]


def made(name, net, given=None):
    return make(OPTIMIZERS, name, "optim.name", given or groups(net), OPTIM)


def loss_of(net):
    return nn.functional.cross_entropy(net(X), Y)


def closure_of(net, optimizer, seen=None):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        if seen is not None:
            seen.append(torch.is_grad_enabled())
        return loss

    return closure


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(params=OPTIMIZERS)
def name(request):
    return request.param


def test_a_step_with_a_closure_is_the_step_after_it(name):
    plain, given = Net(), Net()
    a, b = made(name, plain), made(name, given)
    for _ in range(3):
        a.zero_grad()
        expected = loss_of(plain)
        expected.backward()
        assert a.step() is None
        seen = []
        with torch.no_grad():  # as Lightning and others call it from anywhere
            loss = b.step(closure_of(given, b, seen))
        assert seen == [True] and torch.equal(loss, expected) and loss.requires_grad
        assert torch.is_grad_enabled()
    assert equal(weights(plain), weights(given))


def test_a_closure_is_taken_by_name_and_may_return_a_number(name):
    net = Net()
    optimizer = made(name, net)
    closure = closure_of(net, optimizer)
    assert optimizer.step(closure=lambda: closure().item()) == pytest.approx(loss_of(Net()).item())
    assert not equal(weights(net), weights(Net()))


def test_groups_may_come_later(name):
    net = Net()
    optimizer = made(name, net)
    optimizer.step(closure_of(net, optimizer))
    start = net.fc.weight.detach().clone(), net.fc.bias.detach().clone()
    optimizer.add_param_group({"params": net.fc.parameters(), "lr": 0.05})
    assert len(optimizer.param_groups) == 3 and optimizer.param_groups[2]["lr"] == 0.05
    assert set(optimizer.param_groups[2]) >= {"params", "lr", "weight_decay"}
    optimizer.step(closure_of(net, optimizer))
    assert not torch.equal(net.fc.weight, start[0]) and not torch.equal(net.fc.bias, start[1])
    assert all(p.isfinite().all() for p in net.parameters())
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [net.fc.bias]})
    set_lr(optimizer, 0.0)  # a group that says nothing of a factor has 1
    assert all(group["lr"] == 0 for group in optimizer.param_groups)


def test_a_later_group_moves_as_one_that_was_there(name):
    early, late = Net(), Net()
    both = groups(early)
    a = made(name, early, [both[0], both[1]])
    b = made(name, late, groups(late)[:1])
    rest = groups(late)[1]
    b.add_param_group(rest if name != "muon" else {"params": rest["params"]})
    for _ in range(3):
        a.step(closure_of(early, a))
        b.step(closure_of(late, b))
    for x, y in zip(early.parameters(), late.parameters(), strict=True):
        torch.testing.assert_close(x, y)


def later(name):
    """A net after two steps, one group given later, and its optimiser."""
    net = Net()
    optimizer = made(name, net)
    optimizer.step(closure_of(net, optimizer))
    optimizer.add_param_group({"params": net.fc.parameters()})
    optimizer.step(closure_of(net, optimizer))
    return net, optimizer


@pytest.mark.parametrize("way", ["file", "memory", "deepcopy"])
def test_a_state_goes_round(name, way):
    net, optimizer = later(name)
    twin = Net()
    if way == "deepcopy":
        twin, other = copy.deepcopy((net, optimizer))
    else:
        other = made(name, twin)
        other.add_param_group({"params": twin.fc.parameters()})
        twin.load_state_dict(net.state_dict())
        state = optimizer.state_dict()
        if way == "file":
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            state = torch.load(file, weights_only=True)
        other.load_state_dict(copy.deepcopy(state))
    for _ in range(2):
        optimizer.step(closure_of(net, optimizer))
        other.step(closure_of(twin, other))
    assert equal(weights(net), weights(twin))
    assert str(other) == str(optimizer)


def test_a_state_of_fewer_groups_is_refused(name):
    _, optimizer = later(name)
    with pytest.raises(ValueError, match="param"):
        made(name, Net()).load_state_dict(optimizer.state_dict())


def test_an_optimizer_is_pickled(name):
    _, optimizer = later(name)
    back = pickle.loads(pickle.dumps(optimizer))
    ours = [p for group in back.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in ours]
    for p in ours:
        p.grad = torch.ones_like(p)
    back.step()
    assert type(back) is type(optimizer) and not equal(before, [p.detach() for p in ours])


def test_copies_keep_their_slots_in_one_layout(name):
    net = Net().to(memory_format=torch.channels_last)
    optimizer = made(name, net)
    optimizer.step(closure_of(net, optimizer))
    net, optimizer = copy.deepcopy((net, optimizer))
    state = copy.deepcopy(optimizer.state_dict())
    for slots in state["state"].values():
        slots.update({k: v.contiguous() for k, v in slots.items() if isinstance(v, torch.Tensor)})
    optimizer.load_state_dict(state)
    slots = [v for v in optimizer.state[net.conv.weight].values() if isinstance(v, torch.Tensor) and v.ndim == 4]
    assert (slots or name == "sphere_sgd") and all(s.stride() == net.conv.weight.stride() for s in slots)


def test_gradients_of_another_layout_are_read_right(name):
    straight, turned = Net(), Net()
    a, b = made(name, straight), made(name, turned)
    value = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    for net, optimizer, given in (
        (straight, a, value),
        (turned, b, value.to(memory_format=torch.channels_last)),
    ):

        def closure(net=net, given=given):
            net.conv.weight.grad = given.clone(memory_format=torch.preserve_format)
            return 0.0

        optimizer.step(closure)
        optimizer.step(closure)
    torch.testing.assert_close(straight.conv.weight, turned.conv.weight)


def test_nothing_moves_without_gradients(name):
    net = Net()
    optimizer = made(name, net, groups(net, decay=0.0))
    optimizer.step()
    assert equal(weights(net), weights(Net())) and optimizer.step(lambda: 3.0) == 3.0


def test_gradients_of_zero_move_nothing(name):
    net = Net()
    optimizer = made(name, net, groups(net, decay=0.0))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, q in zip(net.parameters(), Net().parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_parameters_of_two_types_share_a_group(name):
    torch.manual_seed(0)
    a, b = nn.Linear(3, 4), nn.Linear(3, 4).double()
    optimizer = made(
        name, a, [{"params": [*a.parameters(), *b.parameters()], "weight_decay": 0.01, "head": False, "factor": 1.0}]
    )
    before = [p.detach().clone() for p in (*a.parameters(), *b.parameters())]
    for p in (*a.parameters(), *b.parameters()):
        p.grad = torch.ones_like(p)
    optimizer.step()
    after = [*a.parameters(), *b.parameters()]
    assert not any(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert [p.dtype for p in after] == [torch.float32] * 2 + [torch.float64] * 2


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "muon"])  # which cuts its first groups in two
def test_names_of_parameters_are_kept(name):
    net = Net()
    optimizer = made(name, net, [{"params": [*net.conv.named_parameters()]}])
    optimizer.add_param_group({"params": [*net.fc.named_parameters()]})
    assert optimizer.state_dict()["param_groups"][-1]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize("schedule", [lambda o: CosineAnnealingLR(o, 4), lambda o: LambdaLR(o, lambda i: 1 / (i + 1))])
def test_a_scheduler_of_pytorch_keeps_the_factors(name, schedule):
    model = build(FAMILIES["resnet"].tiny)
    optimizer = make_optimizer(model, Optim(name=name, lr=0.1, backbone=0.25), FAMILIES["resnet"].head)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.1 * group["factor"])
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = schedule(optimizer)
    optimizer.step()
    scheduler.step()
    shares = [group["lr"] / rate for group, rate in zip(optimizer.param_groups, rates, strict=True)]
    assert shares == pytest.approx([shares[0]] * len(shares)) and shares[0] < 1


def test_a_scaler_of_losses_leaves_out_steps_that_overflow(name):
    net = Net()
    optimizer = made(name, net)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (torch.inf, 1.0):
        before = weights(net)
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        net.conv.weight.grad.mul_(value)
        scaler.step(optimizer)
        scaler.update()
        assert equal(before, weights(net)) == (value == torch.inf)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in ("sgd", "adamw")])
def test_sparse_gradients_are_refused(name):
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = made(name, table, [{"params": [table.weight]}])
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_hooks_are_called_once(name):
    net, calls = Net(), []
    optimizer = made(name, net)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step(closure_of(net, optimizer))
    assert calls == ["before", "after"]


def test_no_parameters_at_all_are_refused(name):
    with pytest.raises(ValueError, match="empty"):
        OPTIMIZERS[name]([], OPTIM)


def test_the_loss_falls(name):
    net = Net()
    optimizer = make(OPTIMIZERS, name, "optim.name", parameter_groups_of(net), OPTIM)
    start = loss_of(net).item()
    for _ in range(60):
        loss = optimizer.step(closure_of(net, optimizer))
    assert loss.item() < start


def parameter_groups_of(net):
    return [*groups(net), {"params": net.fc.parameters(), "weight_decay": 0.01, "head": True, "factor": 1.0}]


def test_corrected_decay_knows_the_peak_of_a_later_group():
    net = Net()
    optimizer = make(OPTIMIZERS, 'rmsprop_tf(decay="corrected")', "optim.name", groups(net), OPTIM)
    optimizer.add_param_group({"params": net.fc.weight, "lr": 0.5, "weight_decay": 0.1})
    optimizer.add_param_group({"params": net.fc.bias})
    assert [group["peak"] for group in optimizer.param_groups] == [0.01, 0.01, 0.5, 0.01]
    set_lr(optimizer, 0.0)
    optimizer.step(closure_of(net, optimizer))  # a rate of 0 is no division by 0
    assert all(p.isfinite().all() for p in net.parameters())


def test_muon_splits_a_group_that_says_nothing():
    net = Net()
    optimizer = make(OPTIMIZERS, "muon(rest_rate=0.5)", "optim.name", groups(net), OPTIM)
    optimizer.add_param_group({"params": net.fc.parameters(), "lr": 0.2})
    optimizer.step(closure_of(net, optimizer))
    assert set(optimizer.state[net.fc.weight]) == {"momentum_buffer"}
    assert set(optimizer.state[net.fc.bias]) == {"step", "exp_avg", "exp_avg_sq"}
    moved = (net.fc.bias - Net().fc.bias).abs()
    torch.testing.assert_close(moved, torch.full((2,), 0.1), rtol=1e-3, atol=0)  # Adam's first step: the rate
