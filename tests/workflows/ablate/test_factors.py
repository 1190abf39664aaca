"""Factors: what can be typed, and that every named one switches on something that there is."""

import re

import pytest

from foveate.cli import main
from foveate.config import override, parse_call
from foveate.data.policies import POLICIES
from foveate.errors import ConfigError
from foveate.recipes import RECIPES
from foveate.train.check import checked
from foveate.train.initialisers import INITS
from foveate.train.losses import LOSSES
from foveate.train.optimizers import OPTIMIZERS
from foveate.train.recipe import Recipe
from foveate.train.schedules import SCHEDULES
from foveate.train.views import VIEWS
from foveate.workflows.ablate.factors import FACTORS, Named, changes_of, example, group, parse_factors, split_outside
from foveate.zoo import variant

CALLS = {
    "optim.name": OPTIMIZERS,
    "schedule.kind": SCHEDULES,
    "loss.name": LOSSES,
    "augment.policy": POLICIES,
    "init": INITS,
    "views": VIEWS,
}


BESIDE = ("model.", "views=")  # not of the recipe


def switched_on(name: str) -> tuple[str, ...]:
    """The changes of a named factor, with a value where it needs one."""
    factor = FACTORS[name]
    needs = not factor.value and any("{}" in c for c in factor.changes)
    return changes_of(f"{name}={example(factor)}" if needs else name)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_applies_to_every_recipe(name, recipe):
    changes = switched_on(name)
    assert changes
    config = variant("resnet50")
    for text in changes:
        if text.startswith("model."):
            config = override(config, [text.removeprefix("model.")])
    checked(override(RECIPES[recipe], [c for c in changes if not c.startswith(BESIDE)]))


@pytest.mark.parametrize("name", FACTORS)
def test_every_call_of_a_factor_names_an_entry_of_its_table(name):
    for text in switched_on(name):
        key, _, value = text.partition("=")
        if key in CALLS:
            assert parse_call(value)[0] in CALLS[key]


# what a recipe has by itself is no change of it: what a factor is tried on starts without
ON = {"no_bias_decay": "optim.decay_all=true", "cosine": "schedule.kind=step", "flip": "augment.flip=false"}


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_changes_something_and_says_where_it_comes_from(name):
    changes = switched_on(name)
    before = override(Recipe(), [ON[name]] if name in ON else [])
    net, after = variant("resnet50_caffe"), before
    for text in changes:
        if text.startswith("model."):
            assert override(net, [text.removeprefix("model.")]) != net
        elif not text.startswith(BESIDE):
            after = override(after, [text])
    assert after != before or all(c.startswith(BESIDE) for c in changes)
    assert FACTORS[name].text
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|Keller Jordan|Composer", FACTORS[name].source)


def test_published_defaults_of_the_bag_of_tricks():
    assert changes_of("warmup") == ("schedule.warmup=5",)
    assert changes_of("mixup") == ("mix.mixup=0.2",)
    assert changes_of("smoothing") == ("loss.smoothing=0.1", "loss.spread=others")
    assert changes_of("linear_scaling") == ("optim.lr_batch=256",)
    recipe = override(Recipe(), ["batch=1024", "optim.lr=0.1", *changes_of("linear_scaling")])
    from foveate.train.optim import peak_rate

    assert peak_rate(recipe.optim, 1024) == pytest.approx(0.4)  # section 3.1.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixup", (Named("mixup", ("mix.mixup=0.2",)),)),
        ("mixup=0.5", (Named("mixup=0.5", ("mix.mixup=0.5",)),)),
        ("optim.lr=0.05", (Named("optim.lr=0.05", ("optim.lr=0.05",)),)),
        ("model.stem=deep", (Named("model.stem=deep", ("model.stem=deep",)),)),
        ("layers.norm=iter_norm", (Named("layers.norm=iter_norm", ("model.layers.norm=iter_norm",)),)),
        ("model=resnet18d", (Named("model=resnet18d", ("model=resnet18d",)),)),
        ("mixup+cutmix", (Named("mixup+cutmix", ("mix.mixup=0.2", "mix.cutmix=1.0")),)),
        ("optim.lr=1e+3", (Named("optim.lr=1e+3", ("optim.lr=1e+3",)),)),
        (
            "layers.conv=mgic(group=2, coarsest=2), bf16",
            (
                Named("layers.conv=mgic(group=2, coarsest=2)", ("model.layers.conv=mgic(group=2, coarsest=2)",)),
                Named("bf16", ("precision=bf16",)),
            ),
        ),
        ("distill=runs/a/best", (Named("distill=runs/a/best", ("loss.teacher=runs/a/best",)),)),
    ],
)
def test_what_can_be_typed(text, expected):
    assert parse_factors(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mixpu", "did you mean mixup"),
        ("mixup,,ema", "separated by commas"),
        ("mixup,mixup", "stands twice"),
        ("distill", "distill needs a value: distill=runs"),
        ("fixres", "fixres=176"),
        ("cosine=3", "takes no value"),
        ("optim.lrr=3", 'unknown key "lrr"'),
        ("optim.lr=", "expected key=value"),
        ("optim.lr=-1", "greater than 0"),
        ("mixup+mix.mixup=0.4", "can not be switched on together"),
    ],
)
def test_what_can_not_is_refused_in_words(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_factors(text)


def test_signs_within_brackets_do_not_separate():
    assert split_outside("a(b=1,c=2),d[e,f]", ",") == ["a(b=1,c=2)", "d[e,f]"]
    assert group("optim.name=sgd+optim.lr=0.1") == ("optim.name=sgd", "optim.lr=0.1")


def test_the_list_of_factors_is_printed_without_reading_data(capsys):
    assert main(["ablate", "--factors", "list"]) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(FACTORS)]] == list(FACTORS)
