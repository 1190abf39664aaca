"""Settings of a run: obeyed, or refused in one line before anything is read, with what to write instead."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.config import replace, to_json
from foveate.data.preprocess import LUMINANCE, Preprocess, grey, normalise, normalise_own, prepare
from foveate.deploy.export import export_onnx
from foveate.deploy.quantise import ready
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError
from foveate.recipes import RECIPES, find_recipe
from foveate.runs.complete import resume_run
from foveate.runs.plan import Plan
from foveate.runs.plan import prepare as prepare_plan
from foveate.runs.resume import Asked, differences, refuse_other_settings
from foveate.train.probe import check_step
from foveate.train.recipe import Optim, Recipe
from foveate.zoo import create_model, variant
from foveate.zoo.weights import load_weights


@pytest.fixture
def photos(tmp_path):
    """Grey pictures of two brightnesses in class folders."""
    noise = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            picture = np.clip(noise.normal(level, 20, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


def plan_of(**changes):
    made = Plan("photos", "resnet18", variant("resnet18"), RECIPES["baseline"], Preprocess(), **changes)
    return made


# --- beside --resume


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(overrides=["epochs=40"]), "epochs"),
        (Asked(data="others"), "DATA photos, asked for others"),
        (Asked(model="resnet34"), "--model resnet18, asked for resnet34"),
        (Asked(overrides=["optim.lr=0.123"]), "optim.lr"),
        (Asked(overrides=["model.layers.act=silu"]), "model.layers.act relu, asked for silu"),
        (Asked(overrides=["preprocess.resolution=128"]), "preprocess.resolution 224, asked for 128"),
        (Asked(recipe="nfnet"), "--recipe nfnet"),
        (Asked(recipe=Recipe(epochs=3)), "--recipe this one"),
        (Asked(weights="lite"), "--weights none, asked for lite"),
        (Asked(device="cuda"), "--device cpu, asked for cuda"),
        (Asked(bad_files="skip"), "--bad-files stop, asked for skip"),
        (Asked(seed=3), "--seed 0, asked for 3"),
        (Asked(name="birds"), "--name photos-1, asked for birds"),
        (Asked(runs="elsewhere"), "--runs"),
    ],
)
def test_a_setting_that_the_run_has_not_is_refused_beside_resume(tmp_path, asked, says):
    folder = tmp_path / "runs" / "photos-1"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        refuse_other_settings(folder, plan_of(), asked)
    text = str(caught.value)
    assert says in text and "start a new run without --resume: foveate train" in text and "\n" not in text


def test_settings_that_the_run_has_pass(tmp_path):
    folder = tmp_path / "runs" / "photos-1"
    recipe = RECIPES["baseline"]
    asked = Asked(
        data="photos",
        model="resnet18.a1_in1k",
        recipe="baseline",
        overrides=[f"epochs={recipe.epochs}", f"optim.lr={recipe.optim.lr}", "model.layers.act=relu", "precision=auto"],
        seed=0,
        device="cpu",
        bad_files="stop",
        name="photos",
        runs=tmp_path / "runs",
    )
    assert list(differences(folder, plan_of(), asked)) == []
    begun = replace(plan_of(changes=("epochs=7",)), recipe=replace(recipe, epochs=7, precision="bf16", threads=2))
    assert list(differences(folder, begun, Asked(recipe="baseline", overrides=["epochs=7"]))) == []
    assert list(differences(folder, begun, Asked(overrides=["epochs=8"]))) == [("epochs", "7", "8")]


def test_a_key_that_no_run_has_is_a_typing_error_beside_resume_too(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean optim\.lr\?"):
        refuse_other_settings(tmp_path, plan_of(), Asked(overrides=["lr=0.1"]))


def test_a_finished_run_is_left_as_it_is(tmp_path, capsys):
    folder = tmp_path / "photos-1"
    folder.mkdir()
    (folder / "recipe.json").write_text(to_json(plan_of()))
    summary = {"epochs": 20, "test_accuracy": 0.97, "test_split": "test"}
    (folder / "summary.json").write_text(json.dumps(summary))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = resume_run(folder, lambda event: None)
    assert run.before and run.summary == summary
    assert main(["train", "--resume", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} is finished (20 epochs, 97.0 % test); nothing to do\n"
    assert main(["train", "--resume", str(folder), "--epochs", "3"]) == 2
    assert "the run has epochs" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--seed", "0"]) == 0  # said, and the same
    assert main(["train", "--resume", str(folder), "--seed", "1"]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# --- grey pictures


def test_the_luminance_of_a_picture_is_the_same_in_training_in_the_file_and_in_calibration():
    p = grey(Preprocess(resolution=8, resize=8, fit="squash"))
    assert p.channels == 1 and grey(p) is p and p.mean[0] == pytest.approx(0.459, abs=1e-4)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    x = torch.from_numpy(prepare(picture, p)).permute(2, 0, 1)[None]
    ours = normalise(x, p)
    by_hand = ((picture / 255 * np.array(LUMINANCE)).sum(2) - p.mean[0]) / p.std[0]
    assert ours.shape == (1, 1, 8, 8) and np.allclose(ours[0, 0], by_hand, atol=1e-5)
    assert torch.equal(normalise_own(x / 255, p), ours)
    assert np.allclose(ready(picture, p), ours, atol=1e-5)

    class Sum(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2]

    session = open_session(export_onnx(Sum(), p, ("a", "b")), 1)
    assert np.allclose(session.run(picture[None]), ours.flatten(1)[:, :2], atol=1e-5)


def test_a_grey_picture_is_itself_in_one_channel():
    p = replace(grey(Preprocess(resolution=8, resize=8)), mean=(0.0,), std=(1.0,))
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.allclose(normalise(flat, p), torch.full((1, 1, 8, 8), 77 / 255))


def test_a_plan_of_one_channel_is_grey_from_the_first_layer_to_the_mean(photos):
    plan, _ = prepare_plan(photos, "resnet20_cifar", overrides=["model.in_chans=1", "batch=8"])
    assert plan.architecture.in_chans == 1 and plan.preprocess.channels == 1
    own = ["model.in_chans=1", "batch=8", "preprocess.mean=0.5", "preprocess.std=0.2"]
    assert prepare_plan(photos, "resnet20_cifar", overrides=own)[0].preprocess.mean == (0.5,)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channels_are_refused_before_the_pictures_are_read(channels):
    with pytest.raises(ConfigError, match=rf"model\.in_chans = {channels}: expected 3 .* or 1"):
        prepare_plan("no such folder", "resnet20_cifar", overrides=[f"model.in_chans={channels}"])


def test_published_colours_are_summed_for_a_grey_network():
    colour = create_model("resnet20_cifar").eval()
    shades = create_model("resnet20_cifar", in_chans=1).eval()
    load_weights(shades, colour.state_dict())
    x = torch.rand(2, 1, 32, 32)
    assert torch.allclose(shades(x), colour(x.expand(-1, 3, -1, -1)), atol=1e-4)


# --- one value a channel


@pytest.mark.parametrize(
    ("name", "recipe", "pictures"),
    [
        ("mobilenet_v3_small", Recipe(batch=1, resolution=32), None),
        ("mobilenet_v3_small", Recipe(batch=4, parts=4, resolution=32), None),
        ("mobilenet_v3_small", Recipe(batch=8, resolution=32), 1),
        ("mobilenet_v3_small", Recipe(batch=1, resolution=64, grow_from=0.5), None),
        ("resnet18", Recipe(batch=1, resolution=32), None),
    ],
)
def test_a_step_in_which_a_norm_sees_one_value_is_refused(name, recipe, pictures):
    with pytest.raises(ConfigError, match=r"one value a channel .*(batch=2).*group_norm"):
        check_step(variant(name), recipe, pictures=pictures)
    check_step(variant(name), replace(recipe, batch=2 * recipe.parts), pictures=8)


def test_one_picture_is_enough_without_such_norms():
    net = variant("resnet18")
    check_step(replace(net, layers=replace(net.layers, norm="group_norm")), Recipe(batch=1, resolution=32))
    check_step(net, Recipe(batch=1, resolution=224))
    check_step(net, Recipe(batch=1, resolution=32, fold_norms=True))


# --- keys and files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr=0.1", "did you mean optim.lr?"),
        ("weight_decay=0.1", "did you mean optim.weight_decay?"),
        ("mixup=0.2", "did you mean mix.mixup?"),
        ("in_chans=1", "did you mean model.in_chans?"),
        ("layers.norm=group_norm", "did you mean model.layers.norm?"),
        ("norm=group_norm", "did you mean model.layers.norm?"),
        ("resize=64", "did you mean preprocess.resize?"),
        ("optim.lrr=1", "did you mean lr"),
        ("epoch=3", "did you mean epochs?"),
        ("learning_rate=3", "unknown key"),
        ("model.act=silu", "did you mean layers.act?"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_stands(text, says):
    with pytest.raises(ConfigError) as caught:
        prepare_plan("no such folder", "resnet18", overrides=[text])
    assert says in str(caught.value)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_recipe_may_be_a_file(tmp_path, suffix):
    wanted = Recipe(epochs=3, optim=Optim(name="adamw", lr=0.001), blend=(0.5,))
    file = tmp_path / f"mine{suffix}"
    fields = {"epochs": 3, "optim": {"name": "adamw", "lr": 0.001}, "blend": [0.5]}
    toml = '\ufeffepochs = 3\nblend = [0.5]\n[optim]\nname = "adamw"\nlr = 0.001\n'
    file.write_text(toml if suffix == ".toml" else "\ufeff" + json.dumps(fields), "utf-8")
    assert find_recipe(str(file)) == wanted
    (tmp_path / "recipe.json").write_text(to_json(plan_of()))
    assert find_recipe(str(tmp_path / "recipe.json")) == RECIPES["baseline"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", "", "the file is empty"),
        ("a.json", " ", "the file is empty"),
        ("a.json", "{}", "no field in it"),
        ("a.toml", "lr = 0.1", "did you mean optim.lr?"),
        ("a.json", '{"optim": {"lrr": 1}}', "did you mean lr"),
        ("a.toml", "epochs = 3\nepochs = 4", "cannot overwrite"),
        ("a.json", '{"epochs": 3, "epochs": 4}', 'key "epochs" stands twice'),
        ("a.toml", "epochs = nan", "not a number that a config may hold"),
        ("a.toml", "epochs = 1979-05-27", "epochs"),
        ("a.toml", "epochs = '3'", "epochs = '3'"),
        ("a.toml", "epochs = ", "expected TOML"),
        ("a.yaml", "epochs: 3", "ends in .json or .toml"),
        ("a.json", "[3]", "no field in it"),
    ],
)
def test_a_recipe_file_with_a_fault_is_one_line(tmp_path, name, content, says):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        find_recipe(str(file))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_that_is_neither_name_nor_file():
    with pytest.raises(ConfigError, match="did you mean baseline"):
        find_recipe("baselin")
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file"):
        find_recipe("gone.toml")
