"""Low rank: projections against the SVD, pairs against the convolutions that they replace, networks against files."""

import copy

import pytest
import torch
import torch.nn.functional as F
from prunable import PLUGS, SIDES, prunable
from torch import nn

from foveate.compress.check import check, distance, unsettle
from foveate.compress.flow import sites
from foveate.compress.low_rank import Projector, factor, factored, low_rank_stage
from foveate.compress.project import as_matrix, as_weight, gains, merged, project, rank_of, spectrum
from foveate.compress.ranks import Ranking, candidates, ranked, reach, whole
from foveate.config import from_dict, replace, to_dict
from foveate.cost.count import cost
from foveate.errors import BudgetError, ConfigError
from foveate.layers.low_rank import LowRank, Rank, full_rank, like
from foveate.train.artefact import ModelCard, load_model, model_files
from foveate.zoo import FAMILIES, build, config_from, variant
from foveate.zoo.families import resnet

FORMS = ("channel", "spatial")
TWO = (resnet.Stage(8, (12, 8), 1), resnet.Stage(12, (16, 16), 2))
SMALL = resnet.ResNetConfig(TWO, stem="cifar", pool="none", stem_widths=(8,), num_classes=10, resolution=8)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm(channels, seed=0):
    """A batch norm with statistics and gains of its own, float64."""
    made = nn.BatchNorm2d(channels).double().eval()
    with torch.no_grad():
        made.weight.copy_(random(channels, seed=seed))
        made.bias.copy_(random(channels, seed=seed + 1))
        made.running_mean.copy_(random(channels, seed=seed + 2))
        made.running_var.copy_(0.5 + random(channels, seed=seed + 3).square())
    return made


def network(config=SMALL, seed=0):
    """A network with such norms, float64, evaluation mode."""
    torch.manual_seed(seed)
    model = build(config).double().eval()
    for i, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(norm(module.num_features, seed=10 * i).state_dict())
    return model


def macs(config):
    return float(cost(config, resolution=8).macs)


# the projection


@pytest.mark.parametrize("form", FORMS)
def test_without_transfer_it_is_the_truncated_svd(form):
    weight, alpha = random(32, 16, 3, 3), random(32, seed=1).abs() + 0.1
    u, s, vh = torch.linalg.svd(as_matrix(weight * alpha.view(-1, 1, 1, 1), form), full_matrices=False)
    nearest = as_weight(u[:, :8] * s[:8] @ vh[:8], weight.shape, form) / alpha.view(-1, 1, 1, 1)
    low = project(weight, 8, form, alpha=alpha, transfer=False)
    assert torch.allclose(low, nearest, rtol=0, atol=1e-12)
    lost = (merged(low, form, alpha) - merged(weight, form, alpha)).square().sum()
    assert torch.allclose(lost, s[8:].square().sum(), rtol=1e-12)  # Eckart and Young


@pytest.mark.parametrize("form", FORMS)
def test_transfer_raises_what_stays_as_the_paper_says(form):
    weight, alpha, r = random(32, 16, 3, 3), random(32, seed=1).abs() + 0.1, 8
    u, s, vh = torch.linalg.svd(as_matrix(weight * alpha.view(-1, 1, 1, 1), form), full_matrices=False)
    t = (s.square().sum() - 0) / s[:r].square().sum()
    theirs = as_weight(u[:, :r] * (s[:r] * t.sqrt()) @ vh[:r], weight.shape, form) / alpha.view(-1, 1, 1, 1)
    assert torch.allclose(project(weight, r, form, alpha=alpha), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_the_energy_of_the_merged_matrix_stays(form, dtype, most):
    weight, alpha = random(32, 16, 3, 3).to(dtype), random(32, seed=1)
    before, after = (merged(w, form, alpha).square().sum() for w in (weight, project(weight, 8, form, alpha=alpha)))
    assert float((after - before).abs() / before) < most
    own = project(weight, 8, form, alpha=alpha).double().square().sum() / weight.double().square().sum()
    assert abs(float(own) - 1) > 1e-3  # that of the weight does not


@pytest.mark.parametrize("transfer", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_twice_is_once_and_the_full_rank_changes_nothing(form, transfer):
    weight, alpha = random(12, 6, 3, 3), random(12, seed=1)
    once = project(weight, 4, form, alpha=alpha, transfer=transfer)
    assert int(torch.linalg.matrix_rank(as_matrix(once, form))) == 4
    assert torch.allclose(project(once, 4, form, alpha=alpha, transfer=transfer), once, rtol=1e-12, atol=1e-13)
    most = full_rank(6, 12, (3, 3), form)
    assert torch.allclose(project(weight, most, form, alpha=alpha), weight, rtol=0, atol=1e-12)


def test_a_channel_without_gain_is_kept_and_one_without_weight_is_no_fault():
    weight, alpha = random(12, 6, 3, 3), random(12, seed=1)
    alpha[3] = 0
    small = alpha.clone()
    small[3] = 1e-9  # the limit of the formula with 1 / alpha
    low = project(weight, 4, alpha=alpha)
    assert torch.allclose(low, project(weight, 4, alpha=small), rtol=0, atol=1e-9)
    assert float(low[3].square().sum()) > 0.02 * float(weight[3].square().sum())  # 4 directions of 54, at random
    assert int(torch.linalg.matrix_rank(low.flatten(1))) == 4
    assert torch.equal(project(weight, 4, alpha=torch.zeros(12)), project(weight, 4))
    assert torch.equal(project(torch.zeros(4, 3, 3, 3), 2), torch.zeros(4, 3, 3, 3))


@pytest.mark.parametrize("form", FORMS)
def test_a_convolution_and_its_norm_are_the_merged_matrix(form):
    conv, bn, x = nn.Conv2d(6, 12, 3, bias=False).double(), norm(12), random(2, 6, 8, 8)
    alpha = gains(bn, 12)
    weight = as_weight(merged(conv.weight, form, alpha), conv.weight.shape, form)
    shift = bn.bias - alpha * bn.running_mean
    assert torch.allclose(bn(conv(x)), F.conv2d(x, weight, shift), rtol=0, atol=1e-12)


def test_behind_a_norm_in_training_the_transfer_changes_the_scale_alone():
    weight, alpha, x = random(12, 6, 3, 3), random(12, seed=1), random(4, 6, 8, 8)
    kept, lost = (project(weight, 4, alpha=alpha, transfer=t) for t in (True, False))
    ratio = kept / lost
    assert torch.allclose(ratio, ratio.mean(), rtol=1e-10)
    a, b = (F.batch_norm(F.conv2d(x, w), None, None, training=True, eps=1e-15) for w in (kept, lost))
    assert torch.allclose(a, b, rtol=0, atol=1e-11)


# ranks


def test_a_duplicate_filter_drops_the_rank_by_one():
    weight = random(12, 6, 3, 3)
    assert rank_of(spectrum(weight, "channel"), 1.0, 54) == 12
    weight[7] = weight[2]
    assert rank_of(spectrum(weight, "channel"), 1.0, 54) == 11
    weight[9] = 2 * weight[1] - weight[3]
    assert rank_of(spectrum(weight, "channel"), 1.0, 54) == 10


def test_energy_is_the_least_rank_that_keeps_it():
    s = torch.tensor([3.0, 2.0, 1.0, 1.0], dtype=torch.float64)  # squares 9, 4, 1, 1 of 15
    found = [rank_of(s, e, 4) for e in (0.0, 9 / 15, 9.01 / 15, 13 / 15, 13.01 / 15, 14 / 15, 1.0)]
    assert found == [1, 1, 2, 2, 3, 3, 4]
    assert rank_of(torch.zeros(4), 0.5, 4) == 1


def test_plans_follow_from_a_share_and_leave_out_what_saves_nothing():
    model = network()
    for form in FORMS:
        found = candidates(model, Ranking(rule="share", form=form))
        by_name = {r.at: r for r in ranked(found, 0.5, Ranking(rule="share", form=form))}
        assert by_name["layer1.0.conv1"].rank == {"channel": 6, "spatial": 12}[form]  # of 12 and of 24
        assert by_name["layer2.0.downsample.0"] == Rank("layer2.0.downsample.0", 4)  # 1x1, 8 to 12: 80 weights of 96
        more = ranked(found, 0.7, Ranking(rule="share", form=form))  # rank 6: 120 weights
        assert "layer2.0.downsample.0" not in {r.at for r in more}
    ranks = [r.rank for r in ranked(found, 0.3, Ranking(rule="share", multiple=4, form="spatial"))]
    assert all(r % 4 == 0 for r in ranks)


def test_the_best_form_is_the_one_with_fewer_weights_at_equal_energy():
    model = network()
    both = {r.at: r for r in ranked(candidates(model, Ranking(form="best")), 0.7, Ranking(form="best"))}
    for form in FORMS:
        for own in candidates(model, Ranking(form=form)):
            (rank,) = ranked([own], 0.7, Ranking(form=form)) or (None,)
            if rank is not None:
                mine, other = (sum(p.numel() for p in like(own.conv, r.rank, r.form).parameters())
                               for r in (both[own.name], rank))  # fmt: skip
                assert mine <= other
    assert {r.form for r in both.values()} <= set(FORMS)


# which norm follows which convolution


class Backwards(nn.Module):
    """Layers registered in the reverse of their order, with a trap: other_bn stands right behind conv1."""

    def __init__(self):
        super().__init__()
        self.bn2, self.bn1 = norm(4, seed=5), norm(6, seed=9)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.other_bn = norm(6)
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.read_twice = nn.Conv2d(4, 4, 1, bias=False)
        self.bn3 = norm(4)
        self.double()

    def forward(self, x):
        y = self.bn2(self.conv2(self.other_bn(F.relu(self.bn1(self.conv1(x))))))
        z = self.read_twice(self.shared(self.shared(y)))
        return z + self.bn3(z)


def test_norms_are_found_by_how_tensors_flow():
    found = sites(Backwards(), 3, 8)
    assert {name: site.norm for name, site in found.items()} == {
        "conv1": "bn1", "conv2": "bn2", "shared": None, "read_twice": None
    }  # fmt: skip
    assert found["conv1"].shape == (1, 3, 8, 8) and found["conv2"].shape == (1, 6, 4, 4)
    assert found["shared"].runs == 2


def test_in_a_preactivation_network_the_last_convolution_of_a_block_has_no_norm():
    with torch.device("meta"):
        model = build(variant("preresnet20_cifar"))
    found = sites(model, 3, 32)
    assert found["layer1.0.conv1"].norm == "layer1.0.bn2"
    assert found["layer1.0.conv2"].norm is None  # registered before layer1.1.bn1, which reads the sum
    post = sites(build(SMALL), 3, 8)
    assert post["layer2.0.downsample.0"].norm == "layer2.0.downsample.1" and len(post) == 10
    assert all(site.norm for site in post.values())


# networks


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_pair_is_the_projected_convolution(form, stride):
    conv, x = nn.Conv2d(16, 32, 3, stride, padding=1).double(), random(2, 16, 9, 9)
    with torch.no_grad():
        conv.weight.copy_(project(conv.weight, 8, form, alpha=random(32)))
        pair = like(conv, 8, form).double()
        pair.approximate(conv.weight)
        pair.second.bias.copy_(conv.bias)
        assert torch.allclose(pair(x), conv(x), rtol=0, atol=1e-12)
        assert torch.allclose(pair.product(), conv.weight, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_a_projected_network_is_factored_exactly_and_multiplied_out_again(form):
    model, x = network(), random(3, 3, 8, 8)
    plan = ranked(candidates(model, Ranking(form=form)), 0.6, Ranking(form=form))
    assert len(plan) >= 8
    Projector(model, plan).project()
    config, state = factor(model, plan)
    pairs = build(config).double().eval()
    pairs.load_state_dict(state)
    assert sum(isinstance(m, LowRank) for m in pairs.modules()) == len(plan)
    scale = float(model(x).abs().max().detach())
    assert float((pairs(x) - model(x)).abs().max().detach()) < 1e-12 * scale
    back = whole(pairs)
    assert back.config == SMALL
    assert float((back(x) - model(x)).abs().max().detach()) < 1e-12 * scale


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_factored(family):
    config = prunable(family, PLUGS["plain"])
    model, side = unsettle(build(config), 0).double().eval(), SIDES.get(family, 32)
    rule = Ranking(rule="share", form="best", merged=False)
    plan = ranked(candidates(model, rule), 0.5, rule)
    assert plan
    pairs, before = factored(model, plan), copy.deepcopy(model)
    assert config_from(to_dict(pairs.config)) == pairs.config
    assert sum(isinstance(m, LowRank) for m in pairs.modules()) == len(plan)
    Projector(model, plan, transfer=False, merged=False).project()
    x = random(2, 3, side, side)
    assert distance(model, pairs, x) <= 1e-12 < distance(before, pairs, x)
    if family != "mgic":  # widths of its pairs are halves of others
        assert check(pairs.config) <= 1e-12  # a factored network is pruned like any other


def test_a_factored_network_is_saved_and_loaded_like_any_other(tmp_path):
    from foveate.data.preprocess import Preprocess

    model, x = network().float(), random(3, 3, 8, 8).float()
    small = factored(model, ranked(candidates(model, Ranking()), 0.6, Ranking()))
    classes = tuple(f"class {i}" for i in range(10))
    card = ModelCard(small.config, classes, Preprocess(resolution=8, resize=8), {}, ())
    for name, data in model_files(card, small.state_dict()).items():
        (tmp_path / name).write_bytes(data)
    loaded, _ = load_model(tmp_path)
    assert loaded.config == small.config and torch.equal(loaded.eval()(x), small(x))
    assert config_from(to_dict(small.config)) == small.config
    assert from_dict(type(SMALL), {k: v for k, v in to_dict(SMALL).items() if k != "ranks"}) == SMALL  # older files
    loss = F.cross_entropy(loaded.train()(x), torch.tensor([1, 2, 3]))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loaded.parameters())


def test_the_projector_acts_every_few_steps_and_uses_the_right_norms():
    model = network()
    plan = (Rank("layer2.0.conv1", 3), Rank("layer1.1.conv2", 5, "spatial"), Rank("layer2.0.downsample.0", 2))
    before = copy.deepcopy(model.state_dict())
    projector = Projector(model, plan, every=3)
    assert [projector.step() for _ in range(7)] == [False, False, True, False, False, True, False]
    norms = {"layer2.0.conv1": "layer2.0.bn1", "layer1.1.conv2": "layer1.1.bn2",
             "layer2.0.downsample.0": "layer2.0.downsample.1"}  # fmt: skip
    for rank in plan:
        key = f"{rank.at}.weight"
        alpha = gains(model.get_submodule(norms[rank.at]), len(before[key]))
        wanted = project(before[key], rank.rank, rank.form, alpha=alpha)
        assert torch.allclose(model.state_dict()[key], wanted, rtol=0, atol=1e-12)
    touched = {f"{rank.at}.weight" for rank in plan}
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items() if k not in touched)


def test_a_target_is_reached_by_the_largest_share_that_fits():
    model = network()
    for rule in ("energy", "share"):
        plan = reach(model, macs, 0.6 * macs(SMALL), Ranking(rule=rule, form="best"))
        share = macs(replace(SMALL, ranks=plan)) / macs(SMALL)
        assert 0.5 < share <= 0.6
    with pytest.raises(BudgetError, match="with rank 1 everywhere"):
        reach(model, macs, 0.01 * macs(SMALL), Ranking())


def test_a_pair_that_does_not_win_is_not_made():
    model, calls = network(), []

    def time_ms(module, shape):
        """Every convolution costs a start besides its work: so that small pairs lose."""
        calls.append(shape)
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        return sum(m.weight.numel() for m in convs) + 500.0 * len(convs)

    plan = reach(model, macs, 0.8 * macs(SMALL), Ranking(rule="share"), time_ms)
    known = {own.name: own.conv.weight.numel() for own in candidates(model, Ranking())}
    assert {"layer2.1.conv1", "layer2.1.conv2"} <= {r.at for r in plan}
    for rank in plan:
        pair = like(model.get_submodule(rank.at), rank.rank, rank.form)
        assert sum(p.numel() for p in pair.parameters()) + 500 < known[rank.at]
    assert not {"conv1", "layer1.1.conv2", "layer2.0.downsample.0"} & {r.at for r in plan}
    assert {len(shape) for shape in calls} == {4}
    with pytest.raises(BudgetError, match="faster than their convolutions"):
        reach(model, macs, 0.3 * macs(SMALL), Ranking(rule="share"), time_ms)


def test_the_stage_trains_between_projections_and_leaves_the_caller_s_model():
    model, seen = network().float(), []
    x, y = random(16, 3, 8, 8).float(), torch.arange(16) % 10

    def tune(net, after_step):
        optimizer = torch.optim.SGD(net.train().parameters(), 0.05)
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            after_step()
            seen.append(float(loss.detach()))

    before = copy.deepcopy(model.state_dict())
    made = low_rank_stage(model, macs, 0.7 * macs(SMALL), ranking=Ranking(), tune=tune, every=2)
    assert macs(made.config) <= 0.7 * macs(SMALL) and len(made.config.ranks) > 3 and seen[-1] < seen[0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    again = low_rank_stage(made, macs, 0.5 * macs(SMALL), ranking=Ranking(merged=False))  # plain SVD, of pairs
    assert macs(again.config) <= 0.5 * macs(SMALL) and bool(again(x).isfinite().all())


def test_what_can_not_be_is_refused():
    model = network()
    for plan, text in (
        ((Rank("layer9", 2),), "the network has no layer9"),
        ((Rank("fc", 2),), "not a plain convolution"),
        ((Rank("conv1", 2), Rank("conv1", 3)), "named twice"),
        ((Rank("layer2.0.downsample.0", 2, "spatial"),), 'take form "channel"'),
    ):
        with pytest.raises(ConfigError, match=text):
            build(replace(SMALL, ranks=plan))
    grouped = replace(SMALL, block="bottleneck", stages=(resnet.Stage(8, (8,), 1, groups=2),))
    with pytest.raises(ConfigError, match="in 2 groups"):
        build(replace(grouped, ranks=(Rank("layer1.0.conv2", 2),)))
    with pytest.raises(ConfigError, match="not in the network"):
        Projector(model, (Rank("layer9", 2),))
    with pytest.raises(ConfigError, match="not a network of the zoo"):
        candidates(nn.Conv2d(3, 4, 3), Ranking())
    with pytest.raises(ConfigError):
        Rank("conv1", 0)
