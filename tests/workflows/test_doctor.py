"""foveate doctor: what is wrong is found, and a bound that was made on purpose is the one that is named."""

import importlib
import json
import re
import time

import pytest
import typer

from foveate.cli.doctor import command, environment_lines, training_lines
from foveate.data.load import training_pictures
from foveate.errors import ConfigError
from foveate.runs.plan import prepare
from foveate.train.recipe import Augment, Recipe
from foveate.workflows.doctor import diagnosis as doctor
from foveate.workflows.doctor import environment as environment_of
from foveate.workflows.doctor.diagnosis import Form, Times, alternatives, conclude, diagnosed, settled
from foveate.workflows.doctor.environment import environment


@pytest.fixture(scope="module")
def digits():
    plan, dataset = prepare("digits", "resnet20_cifar", overrides=("batch=8", "threads=1"))
    return plan, dataset


def test_every_extra_is_one_of_the_package_and_looks_for_modules_of_its_packages():
    import tomllib
    from pathlib import Path

    from foveate.workflows.doctor.environment import EXTRAS

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    known = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "dev"}
    assert EXTRAS.keys() == known.keys()
    for name, modules in EXTRAS.items():
        packages = [re.split(r"[\[<>=]", text)[0].replace("-", "_") for text in known[name]]
        assert list(modules) == packages


def test_the_environment_has_versions_and_room_and_is_not_broken():
    found = environment()
    assert not found.broken
    assert found.facts["packages"]["torch"].startswith("2.")
    assert found.facts["cores"] >= 1 and found.facts["memory_free_bytes"] > 0
    json.dumps(found.facts)
    text = "\n".join(environment_lines(found))
    assert "torch" in text and "cache" in text


def test_problems_are_said_in_plain_words_with_what_to_do():
    facts = {**environment().facts, "threads": 8, "cores": 2, "load": 9.0}
    facts |= {"memory_free_bytes": 10**9, "disk_free_bytes": 10**8}
    text = " / ".join(environment_of._problems(facts))
    for part in ("8 threads on 2 cores", "OMP_NUM_THREADS=2", "load 9.0", "1.0 GB of memory", "100 MB of disk"):
        assert part in text
    good = {**facts, "threads": 2, "load": 0.1, "memory_free_bytes": 10**11, "disk_free_bytes": 10**11}
    assert list(environment_of._problems(good)) == []


def test_a_missing_package_is_broken_and_named(monkeypatch):
    monkeypatch.setattr(environment_of, "PACKAGES", ("torch", "no-such-package"))
    assert environment().broken == ("no-such-package is missing: pip install no-such-package",)


def conclusion(forms, recipe=None, **seconds):
    how = {"data_s": 0.0, "augment_s": 0.0, "both_s": forms[0].seconds, "batch": 8, "size": 32, "resident": False}
    return conclude(Times(tuple(forms), **{**how, **seconds}), recipe or Recipe())


def test_a_faster_form_is_advised_with_what_it_saves_of_the_whole_step():
    forms = [Form("", 1.0, 3), Form("layout=nhwc", 0.9, 3), Form("precision=bf16 layout=nhwc", 0.5, 3)]
    found = conclusion(forms, both_s=1.25, augment_s=0.25)
    assert (found.bound, found.change) == ("compute", "precision=bf16 layout=nhwc")
    assert found.gain == pytest.approx(0.5 / 1.25)
    assert "foveate train ... --recipe baseline precision=bf16 layout=nhwc" in "\n".join(
        training_lines(found, "baseline")
    )


def test_a_gain_below_five_percent_is_none():
    found = conclusion([Form("", 1.0, 3), Form("layout=nhwc", 0.97, 3)])
    assert (found.change, found.gain) == ("", 0.0)
    assert "no change" in found.advice


def test_slow_decoding_and_slow_augmenting_are_told_apart():
    form = [Form("", 1.0, 3)]
    decoding = conclusion(form, data_s=3.0, augment_s=0.5, both_s=3.0)
    assert (decoding.bound, decoding.change, decoding.gain) == ("data", "decode=scaled", pytest.approx(0.5))
    augmenting = conclusion(form, Recipe(augment=Augment(policy="trivial_augment")), augment_s=3.0, both_s=4.0)
    assert (augmenting.bound, augmenting.change, augmenting.gain) == (
        "data",
        "augment.policy=none",
        pytest.approx(0.75),
    )
    assert decoding.data_share == pytest.approx(3.5 / 4.5)


def test_the_forms_are_those_that_the_machine_can_run(digits, monkeypatch):
    plan, _ = digits
    arithmetic, latency = (importlib.import_module(f"foveate.{name}") for name in ("train.form", "cost.latency"))
    monkeypatch.setattr(arithmetic, "has_bf16", lambda device: False)
    recipe = settled(plan)
    assert (recipe.precision, recipe.layout, recipe.threads) == ("fp32", "nhwc", 1)
    monkeypatch.setattr(latency, "cores_here", lambda: 4)
    assert [change for change, _ in alternatives(recipe, plan)] == ["layout=nchw", "threads=4"]
    monkeypatch.setattr(arithmetic, "has_bf16", lambda device: True)
    found = dict(alternatives(recipe, plan))
    assert set(found) == {"layout=nchw", "precision=bf16", "precision=bf16 layout=nchw", "threads=4"}
    assert (found["precision=bf16"].precision, found["precision=bf16"].layout) == ("bf16", "nhwc")


def test_a_loader_made_slow_on_purpose_is_found_to_be_the_bound(digits, monkeypatch):
    plan, dataset = digits
    pictures = training_pictures(dataset.splits["train"], 32)
    monkeypatch.setattr(doctor, "fits_in_memory", lambda count, side: False)
    monkeypatch.setattr(doctor, "alternatives", lambda recipe, plan: iter(()))
    quick = diagnosed(plan, pictures, 10, most_s=5)
    inner = pictures.read

    def slow(i, u=None):
        time.sleep(max(0.02, 3 * quick.step_s / 8))
        return inner(i, u)

    monkeypatch.setattr(pictures, "read", slow)
    found = diagnosed(plan, pictures, 10, most_s=5)
    assert found.bound == "data" and found.data_share > 0.6
    assert found.change == "decode=scaled" and found.data_s > 8 * 0.02 > quick.data_s
    assert found.both_s > 1.2 * found.step_s  # two threads decode ahead: half the wait is left
    assert found.batch == 8 and not found.resident


def test_pictures_in_memory_cost_no_decoding_and_nothing_of_the_process_is_changed(digits, monkeypatch):
    import torch

    plan, dataset = digits
    one = next(alternatives(settled(plan), plan))
    monkeypatch.setattr(doctor, "alternatives", lambda recipe, plan: iter((one,)))
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    found = diagnosed(plan, training_pictures(dataset.splits["train"], 32), 10, most_s=2)
    assert found.resident and found.data_s == 0 and found.first_read_s > 0
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_num_threads() == threads
    assert [form.change for form in found.forms] == ["", one[0]] and all(form.seconds > 0 for form in found.forms)


def test_the_command_speaks_json_and_refuses_half_a_question(capsys):
    command(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"environment", "problems", "training"} and told["training"] is None
    with pytest.raises(ConfigError, match="--model NAME is missing"):
        command("digits")
    with pytest.raises(ConfigError, match="DATA is missing"):
        command(model="resnet18")


def test_a_broken_machine_is_exit_code_one(monkeypatch, capsys):
    monkeypatch.setattr(environment_of, "PACKAGES", ("no-such-package",))
    with pytest.raises(typer.Exit) as stop:
        command()
    assert stop.value.exit_code == 1
    assert "no-such-package is missing" in capsys.readouterr().out
