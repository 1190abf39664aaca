"""A controlled comparison on made-up pictures: paired seeds, equal budgets, kill and go on, shared work, failures."""

import hashlib
import json
import signal
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.config import replace
from foveate.data.load import Pictures
from foveate.errors import ConfigError, FoveateError, WriteError
from foveate.events import StageEvent, WarningEvent, silent
from foveate.files import write_json
from foveate.workflows.ablate import trial as ablate_trial
from foveate.workflows.ablate.design import Request, combinations, design
from foveate.workflows.ablate.factors import parse_factors
from foveate.workflows.ablate.report import results, table
from foveate.workflows.ablate.run import ablate, load_ablation, resume_ablation, worker
from foveate.workflows.ablate.trial import give_up, result
from foveate.workflows.ablate.workers import SharedTrials
from foveate.zoo.families.resnet.network import ResNet

# resnet20_cifar cut down to three blocks of at most 16 channels
SMALL = (
    "model.stem_widths=(8,)",
    "model.stages.0.mid=(4,)",
    "model.stages.0.width=8",
    "model.stages.1.mid=(8,)",
    "model.stages.1.width=8",
    "model.stages.2.mid=(8,)",
    "model.stages.2.width=16",
    "model.resolution=16",
    *("batch=8", "epochs=2", "schedule.warmup=0", "optim.lr=0.02"),
    *("precision=fp32", "layout=nchw", "threads=1"),
)
FACTORS = "mixup,layers.norm=group_norm(groups=2)"
COMPARED = ("table.md", "results.json", "plot.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of 20 pictures, 16 px: noise that is a little redder or bluer."""
    folder, random = tmp_path_factory.mktemp("made") / "two", np.random.default_rng(0)
    for label, channel in (("blue", 2), ("red", 0)):
        (folder / label).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 200, (16, 16, 3))
            pixels[..., channel] += 40
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i:02d}.png")
    return folder


def make(data, folder, factors=FACTORS, *changes, **options):
    options = {"base": "cifar_standard", "seeds": 2, "runs": folder, "name": "x", **options}
    return ablate(data, "resnet20_cifar", factors, overrides=(*SMALL, *changes), **options)


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """An ablation that nothing interrupted, with what every network saw in training: {trial folder: [pictures]}."""
    seen, order = {}, {}
    trial = [""]

    def watch(module, inputs):
        if isinstance(module, ResNet) and module.training and inputs[0].device.type != "meta":
            seen.setdefault(trial[0], []).append(inputs[0].detach().clone())

    def gather(self, *given, plain=Pictures.gather):
        batch = plain(self, *given)
        if len(self.split) > 20 and trial[0]:  # the training split
            order.setdefault(trial[0], []).append([self.split.paths[i] for i in batch.samples])
        return batch

    def claimed_and_noted(folder, plain=ablate_trial.run_trial):
        def run(place, *rest):
            trial[0] = str(place.relative_to(place.parents[1]))
            plain(place, *rest)
            trial[0] = ""

        return run

    patch = pytest.MonkeyPatch()
    patch.setattr(sys.modules["foveate.workflows.ablate.run"], "run_trial", claimed_and_noted(None))
    patch.setattr(Pictures, "gather", gather)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(watch)
    try:
        run = make(data, tmp_path_factory.mktemp("straight"), f"optim.lr=0.05,{FACTORS}")
    finally:
        hook.remove()
        patch.undo()
    return run, seen, order


def digest(folder: Path) -> dict[str, str]:
    names = [*COMPARED, *(str(p.relative_to(folder)) for p in folder.glob("trials/*/*/best/model.safetensors"))]
    names += [str(p.relative_to(folder)) for p in folder.glob("trials/*/*/metrics.jsonl")]
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}


def test_rows_of_a_seed_see_the_same_pictures_in_the_same_order_and_augmentation(straight):
    _, seen, order = straight
    for seed in ("seed-0", "seed-1"):
        base, rate, norm = (
            next(k for k in seen if k.startswith(row) and k.endswith(seed)) for row in ("00", "01", "03")
        )
        assert len(order[norm]) == 2 * 4  # 32 pictures in batches of 8, 2 epochs; group norm has no statistics
        mixup = next(k for k in order if k[:2] == "02" and seed in k)
        for other in (base, rate, mixup):  # in between they look at batches for the statistics of their norms
            left = iter(order[other])
            assert all(batch in left for batch in order[norm])
        assert len(seen[base]) == 8
        for other in (rate, norm):
            assert all(torch.equal(a, b) for a, b in zip(seen[base], seen[other], strict=True))
    assert order["00-base/seed-0"] != order["00-base/seed-1"]
    assert not torch.equal(seen["00-base/seed-0"][0], seen["00-base/seed-1"][0])
    mixup = next(k for k in seen if k.startswith("02") and k.endswith("seed-0"))
    assert not torch.equal(seen["00-base/seed-0"][0], seen[mixup][0])


def test_rows_of_a_seed_start_from_the_same_weights(straight):
    """The first loss is before any step: it differs by the network alone, and here the network is the same."""
    run, *_ = straight
    plans = [row.plan for row in load_ablation(run.folder).rows]
    from foveate.runs.setup import make_state

    a, b = (make_state(p.architecture, p.recipe, "cpu").model.state_dict() for p in plans[:2])
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_rows_have_equal_steps_and_differ_in_nothing_but_their_factors(straight):
    run, *_ = straight
    rows = load_ablation(run.folder).rows
    assert {(r["epochs"], r["steps"], r["batch"]) for r in run.summary["rows"]} == {(2, 8, 8)}
    base = rows[0].plan
    faster = replace(base.recipe, optim=replace(base.recipe.optim, lr=0.05))
    assert rows[1].plan == replace(base, recipe=faster, changes=rows[1].plan.changes)
    assert rows[2].plan.architecture == base.architecture
    assert rows[3].plan.recipe == base.recipe
    layers = replace(base.architecture.layers, norm="group_norm(groups=2)")
    assert rows[3].plan.architecture == replace(base.architecture, layers=layers)


def test_results_are_those_of_the_model_folders(straight, data):
    """The numbers of the table come again from what is stored, computed by another road."""
    from foveate.runs.evaluate import evaluate_model

    run, *_ = straight
    ablation = load_ablation(run.folder)
    for trial in ablation.trials[:3]:
        place = run.folder / "trials" / ablation.folder(*trial)
        found, rows = result(place), [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        assert found["val_accuracy"] == max(r["val_accuracy"] for r in rows)
        assert rows[found["best_epoch"] - 1]["val_accuracy"] == found["val_accuracy"]
        if ablation.seeds[trial[1]] == 0:  # evaluate_model cuts the split with seed 0
            assert evaluate_model(place / "best", data)["accuracy"] == found["accuracy"]
        assert not (place / "state").exists()
        assert not (place / "last").exists()


def test_the_table_has_the_layout_of_the_papers(straight):
    run, *_ = straight
    lines = (run.folder / "table.md").read_text().splitlines()
    grid = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [g[0] for g in grid[2:]] == ["base", "optim.lr=0.05", "mixup", "layers.norm=group_norm(groups=2)"]
    assert len({len(line) for line in lines if line.startswith("|")}) == 1  # to the eye, too
    first, second = run.summary["rows"][:2]
    mean, sd = np.mean(first["values"]), np.std(first["values"], ddof=1)
    assert grid[2][1] == f"{100 * mean:.2f} ± {100 * sd:.2f}"
    assert grid[3][2] == f"{100 * np.mean(np.subtract(second['values'], first['values'])):+.2f}"
    assert (run.folder / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def killed(data, tmp_path_factory):
    """The same ablation three ways: straight, killed at three points, by two processes. {name: (digest, codes)}"""
    root = tmp_path_factory.mktemp("killed")
    one = make(data, root / "one", "mixup,ema=0.5", kind="cumulative").folder
    two, codes = prepared(one, root / "two"), []
    for point in ("step:3", "trial.before_result:2", "trial.after_result:1"):
        process = forked.start_command(["ablate", "--resume", str(two), "-q"], root, crash=point)
        process.join()
        codes.append(process.exitcode)
    resume_ablation(two)
    three, told = prepared(one, root / "three"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CRASHPOINT", "step:16")  # each worker dies at its 16th step; there are 48
        patch.setenv("OMP_NUM_THREADS", "1")
        resume_ablation(three, workers=2, listener=told.append)
    return {"one": one, "two": two, "three": three, "codes": codes, "told": told}


def prepared(folder: Path, other: Path) -> Path:
    """A folder with the same plan and nothing done."""
    other.mkdir()
    (other / "ablation.json").write_bytes((folder / "ablation.json").read_bytes())
    return other


def test_killed_in_the_middle_and_resumed_gives_the_same_bytes(killed):
    assert killed["codes"] == [-signal.SIGKILL] * 3
    assert digest(killed["two"]) == digest(killed["one"])
    assert len(digest(killed["one"])) == 3 + 2 * 6
    assert not list(killed["two"].rglob(".*"))


def test_two_processes_that_are_killed_share_the_trials_and_give_the_same_bytes(killed):
    assert digest(killed["three"]) == digest(killed["one"])
    said = [event.text for event in killed["told"] if isinstance(event, WarningEvent)]
    assert 2 <= len([text for text in said if "was killed by signal 9; another goes on" in text]) <= 4
    finished = [e.text.split("  ")[0] for e in killed["told"] if isinstance(e, StageEvent) and "val" in e.text]
    assert min(finished) == "1/6 base, seed 0"
    assert len(finished) == len(set(finished)) == 6


def test_a_trial_that_ends_its_process_three_times_is_given_up(killed, tmp_path):
    folder = prepared(killed["one"], tmp_path / "deadly")
    made = load_ablation(folder)
    shared = SharedTrials(worker, folder, made, 0, silent)
    for log, place in (("trial 1 0\n", (1, 0)), ("trial 1 0\ntrial 2 1\n", (2, 1))):
        (folder / "workers" / "7.log").write_text(log)
        for _ in range(3):
            assert result(folder / "trials" / made.folder(*place)) is None
            shared.died(7, 9)
        found = result(folder / "trials" / made.folder(*place))
        assert found["failed"] == "its process was killed 3 times, at last by signal 9 (out of memory?)"
    (folder / "workers" / "7.log").write_text("")
    shared.died(7, 9), shared.died(7, 9)
    with pytest.raises(FoveateError, match="killed 3 times before they began, by signal 9"):
        shared.died(7, 9)


def test_an_ablation_that_is_done_is_not_done_again(killed):
    before = {p: p.stat().st_mtime_ns for p in killed["two"].glob("trials/*/*/result.json")}
    resume_ablation(killed["two"])
    assert {p: p.stat().st_mtime_ns for p in killed["two"].glob("trials/*/*/result.json")} == before


def test_a_signal_saves_and_says_how_to_go_on(killed, tmp_path):
    folder = prepared(killed["one"], tmp_path / "signal")
    process = forked.start_command(["ablate", "--resume", str(folder), "--workers", "2"], tmp_path)
    while not list(folder.glob("trials/*/*/state/step-*")) and process.is_alive():
        time.sleep(0.02)
    process.terminate()
    process.join()
    out, err = ((tmp_path / name).read_text() for name in ("out.txt", "err.txt"))
    assert process.exitcode == 75, err
    assert f"go on with: foveate ablate --resume {folder}" in err
    assert "Traceback" not in err
    assert not out
    assert not [*folder.rglob(".lock"), *folder.rglob(".owner")]  # nobody is left in a trial
    resume_ablation(folder)
    assert digest(folder) == digest(killed["one"])


def test_a_failed_trial_is_a_row_that_says_so(data, tmp_path):
    told = []
    wild = "optim.lr=900000+optim.weight_decay=900000"  # weights grow 10^11 times a step
    run = make(data, tmp_path, f"{wild},ema=0.5", "batch=4", seeds=1, listener=told.append)
    bad, good = run.summary["rows"][1:]
    assert bad["test"] is None
    assert bad["failed"][0]["seed"] == 0
    assert "loss is" in bad["failed"][0]["text"]
    assert good["test"] is not None
    text = (run.folder / "table.md").read_text()
    assert " failed | " in text
    assert f"{wild}, seed 0 failed: the loss is" in text
    assert any(isinstance(event, WarningEvent) and "failed" in event.text for event in told)
    # once more: it stays as it is; with retry it runs again
    place = next(run.folder.glob("trials/01*/seed-0"))
    assert (place / "failure.txt").exists()
    stamp = (place / "result.json").stat().st_mtime_ns
    resume_ablation(run.folder)
    assert (place / "result.json").stat().st_mtime_ns == stamp
    resume_ablation(run.folder, retry=True)
    assert (place / "result.json").stat().st_mtime_ns != stamp


def test_memory_that_runs_out_in_one_row_does_not_end_the_others(data, tmp_path, monkeypatch):
    plain = ablate_trial.train_in

    def train_in(folder, plan, *rest, **named):
        if plan.recipe.ema == 0.5:
            raise MemoryError("no memory left")
        return plain(folder, plan, *rest, **named)

    monkeypatch.setattr(ablate_trial, "train_in", train_in)
    run = make(data, tmp_path, "ema=0.5", seeds=2)
    assert [f["text"] for f in run.summary["rows"][1]["failed"]] == ["MemoryError: no memory left"] * 2
    assert len(run.summary["rows"][0]["values"]) == 2


def test_a_full_disk_is_no_result(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise WriteError("could not write best (9 bytes): no space left; free some and start again")

    monkeypatch.setattr(ablate_trial, "train_in", full)
    with pytest.raises(FoveateError, match="no space left"):
        make(data, tmp_path, "ema=0.5", seeds=1)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("broken", ["no checkpoint", "another failure"])
def test_a_trial_whose_checkpoints_are_damaged_begins_again(data, straight, tmp_path, monkeypatch, broken):
    made, told = load_ablation(straight[0].folder), []
    place = tmp_path / "trial"
    (place / "state" / "step-00000001").mkdir(parents=True)
    write_json(place / "recipe.json", made.rows[0].plan)
    plain = ablate_trial.train_in

    def train_in(*given, **named):
        if broken == "another failure" and named.get("resume"):
            raise FoveateError("no usable checkpoint of another kind")
        return plain(*given, **named)

    monkeypatch.setattr(ablate_trial, "train_in", train_in)
    ablate_trial.run_trial(place, made, 0, 0, told.append)
    again = [e.text for e in told if isinstance(e, WarningEvent) and e.text.endswith("this trial begins again")]
    if broken == "no checkpoint":
        assert len(again) == 1 and "no usable checkpoint" in again[0]
        assert result(place) == result(straight[0].folder / "trials" / made.folder(0, 0))
    else:
        assert not again and result(place)["failed"] == "no usable checkpoint of another kind"


def named(text):
    return parse_factors(text)


def test_the_four_designs():
    factors = named("mixup,ema,bf16")
    labels = lambda kind: [(c.label, len(c.on), c.reference) for c in combinations(factors, kind)]  # noqa: E731
    assert labels("one-in") == [("base", 0, None), ("mixup", 1, 0), ("ema", 1, 0), ("bf16", 1, 0)]
    assert labels("cumulative") == [("base", 0, None), ("+ mixup", 1, 0), ("+ ema", 2, 1), ("+ bf16", 3, 2)]
    out = [("all", 3, None), ("- mixup", 2, 0), ("- ema", 2, 0), ("- bf16", 2, 0), ("base", 0, 0)]
    assert labels("one-out") == out
    every = labels("factorial")
    assert (len(every), every[0], every[-1]) == (8, ("base", 0, None), ("mixup + ema + bf16", 3, 0))
    with pytest.raises(ConfigError, match="can not be switched on together"):
        combinations(named("mixup,mixup=0.4"), "cumulative")
    assert len(combinations(named("mixup,mixup=0.4"), "one-in")) == 3


def settled_design(data, factors, kind="one-in", changes=(), **more):
    request = Request(
        str(data), "resnet20_cifar", "cifar_standard", (*SMALL, *changes), named(factors), kind, (0, 1), **more
    )
    return design(request, silent)


def test_what_the_recipe_leaves_open_is_settled_once_for_all_rows(data, monkeypatch):
    from foveate.train import form

    asked = []
    plain = form.settle
    monkeypatch.setattr(
        sys.modules["foveate.workflows.ablate.design"], "settle", lambda *a: asked.append(1) or plain(*a)
    )
    made = settled_design(data, "mixup,layers.act=silu,threads=2", changes=("precision=auto", "layout=auto"))
    assert len(asked) == 1
    recipes = [row.plan.recipe for row in made.rows]
    assert len({r.layout for r in recipes}) == len({r.precision for r in recipes}) == 1
    assert "auto" not in {r.precision for r in recipes} | {r.layout for r in recipes}
    assert [r.threads for r in recipes] == [1, 1, 1, 2]  # a factor that names one keeps its own


@pytest.mark.parametrize(
    ("factors", "kind", "said"),
    [
        ("augment.flip=true", "one-in", "changes nothing"),
        ("mixup,mix.cutmix=0", "cumulative", "factor mix.cutmix=0 changes nothing"),
        ("epochs=3", "one-in", "budgets should be equal"),
        ("layers.norm=iter_nrm", "one-in", "did you mean iter_norm"),
        ("model.nonsense=1", "one-in", 'unknown key "nonsense"'),
        ("model=resnet2000", "one-in", 'unknown model "resnet2000"'),
        ("recipe=nonsense", "one-in", 'unknown recipe "nonsense"'),
        ("distill=nowhere", "one-in", "no model folder there"),
        ("views=both", "one-in", 'unknown views "both"'),
        ("mixup", "one-out", "two or more"),
        ("erase,ema,mixup,cutmix,bce,crop,sam", "factorial", "at most 6"),
    ],
)
def test_what_can_not_be_compared_is_refused_before_any_training(data, factors, kind, said):
    with pytest.raises(ConfigError) as caught:
        settled_design(data, factors, kind)
    assert said in str(caught.value)


def test_unequal_lengths_are_compared_where_that_is_wanted(data):
    made = settled_design(data, "epochs=3", unequal=True)
    assert [row.plan.recipe.epochs for row in made.rows] == [2, 3]


def test_whole_parts_can_be_factors(data):
    made = settled_design(data, "model=resnet20_cifar_conv,recipe=small_pictures,views=mirror")
    assert [row.plan.model for row in made.rows] == ["resnet20_cifar", "resnet20_cifar_conv", *["resnet20_cifar"] * 2]
    assert made.rows[2].plan.recipe.optim.name == "adamw"
    assert [row.views for row in made.rows] == ["one", "one", "one", "mirror"]
    assert made.rows[1].params > made.rows[0].params


def made_up(ablation, values, failed=()):
    """Outcomes with these accuracies, in the order of the rows."""
    outcomes = {}
    for row, place in ablation.trials:
        about = {"row": ablation.rows[row].label, "seed": ablation.seeds[place]}
        if (row, place) in failed:
            outcomes[row, place] = {**about, "failed": "the loss is nan at step 3"}
            continue
        share = values[row][place]
        numbers = {"correct": round(100 * share), "n": 100, "top5": 1.0, "split": "test", "val_accuracy": share}
        length = {"val_n": 50, "epochs": 2, "steps": 8, "batch": 8}
        outcomes[row, place] = {**about, "failed": None, "accuracy": share, **numbers, **length}
    return outcomes


def test_a_factorial_design_has_main_effects_and_interactions(data):
    made = settled_design(data, "mixup,ema", "factorial")
    found = results(made, made_up(made, [[0.5, 0.6], [0.6, 0.7], [0.7, 0.8], [0.9, 0.92]]))
    effects = {e["name"]: e["mean"] for e in found["effects"]}
    assert effects["mixup"] == pytest.approx(((0.1 + 0.1) / 2 + (0.2 + 0.12) / 2) / 2)
    assert effects["mixup x ema"] == pytest.approx(((0.2 - 0.1) + (0.12 - 0.1)) / 2)
    assert "| mixup x ema " in table(found)


def test_a_row_is_compared_over_the_seeds_that_both_have(data):
    made = settled_design(data, "mixup,ema")
    found = results(made, made_up(made, [[0.5, 0.6], [0.6, 0.8], [0.7, 0.9]], failed={(1, 0)}))
    assert found["rows"][1]["difference"]["n"] == 1
    assert found["rows"][1]["difference"]["mean"] == pytest.approx(0.2)
    assert found["rows"][2]["difference"]["n"] == 2
    # one test is made, so Holm has nothing to correct
    assert found["rows"][2]["difference"]["p_holm"] == found["rows"][2]["difference"]["p"]


def test_a_row_that_is_equal_in_every_seed_is_said_to_be(data):
    made = settled_design(data, "mixup,ema")
    text = table(results(made, made_up(made, [[0.5, 0.6], [0.5, 0.6], [0.7, 0.9]])))
    assert "mixup is equal to base in every seed" in text
    assert "ema is equal" not in text


def test_where_all_fail_the_ablation_fails(killed, tmp_path):
    folder = prepared(killed["one"], tmp_path / "all")
    made = load_ablation(folder)
    for trial in made.trials:
        place = folder / "trials" / made.folder(*trial)
        place.mkdir(parents=True)
        give_up(place, made, *trial, "its process was killed")
    with pytest.raises(FoveateError, match="every trial failed, the first with: its process was killed"):
        resume_ablation(folder)


def test_changed_pictures_end_it(killed, tmp_path):
    from foveate.errors import DataError

    folder = prepared(killed["one"], tmp_path / "changed")
    made = load_ablation(folder)
    write_json(folder / "ablation.json", replace(made, fingerprints=("other", "other")))
    with pytest.raises(DataError, match="pictures changed since the ablation began"):
        resume_ablation(folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "DATA is missing"),
        (["digits"], "--model NAME is missing"),
        (["digits", "--model", "resnet18"], "--factors A,B is missing"),
        (["digits", "--model", "resnet18", "--factors", "mixpu"], "did you mean mixup"),
        (["digits", "--model", "resnet1", "--factors", "mixup"], "unknown model"),
        (["digits", "--model", "resnet18", "--base", "basline", "--factors", "mixup"], "did you mean baseline"),
        (["digits", "--model", "resnet18", "--factors", "mixup", "--seeds", "0"], "--seeds"),
        (["digits", "nonsense", "--model", "resnet18", "--factors", "mixup"], "expected key=value"),
        (["digits", "--model", "resnet18", "--factors", "mixup", "--one-out", "--factorial"], "three designs"),
        (["--resume", "nowhere"], "no ablation.json"),
        (["digits", "--resume", "nowhere"], "no ablation.json"),
        (["digits", "--model", "resnet18", "--factors", "mixup", "--retry"], "--retry goes with --resume"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_table_or_one_json_object(killed, capsys):
    assert main(["ablate", "--resume", str(killed["one"]), "-q"]) == 0
    out = capsys.readouterr().out
    assert out.startswith((killed["one"] / "table.md").read_text())
    assert main(["ablate", "--resume", str(killed["one"]), "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in found["rows"]] == ["base", "+ mixup", "+ ema=0.5"]
    assert found["rows"][2]["reference"] == "+ mixup"
    assert found["rows"][2]["over_base"]["n"] == 2
    assert [t["trials"] for t in found["timing"]] == [2, 2, 2]
    assert {k: v for k, v in found.items() if k not in ("timing", "folder")} == json.loads(
        (killed["one"] / "results.json").read_text()
    )
