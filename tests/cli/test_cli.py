"""The command line as a user meets it: help, one-line errors with their exit codes, streams, locales, terminals."""

import json
import os
import pty
import resource
import select
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from PIL import Image

from foveate import __version__, files
from foveate.cli import fit, main, units
from foveate.config import replace, to_json
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, DataError, FoveateError, Interrupted
from foveate.events import StepEvent
from foveate.report import progress
from foveate.report import units as shown
from foveate.runs.plan import prepare
from foveate.train.artefact import ModelCard, model_files, read_card
from foveate.zoo import build, variant

FOVEATE = (sys.executable, "-c", "from foveate.cli import main; raise SystemExit(main())")
ROW = {"path", "label", "probability", "unknown", "set", "strangeness", "top"}  # of predict --json
COMMANDS = ("fit", "train", "eval", "predict", "models", "profile", "export", "compress", "scale", "search", "ablate")
COMMANDS += ("analyse", "reproduce", "explain", "doctor", "data")
CLASSES = ("apple", "big dog", "café")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder with a small untrained network."""
    torch.manual_seed(0)
    config = replace(variant("resnet20_cifar"), num_classes=len(CLASSES))
    card = ModelCard(config, CLASSES, Preprocess(resolution=32, resize=32, fit="squash"), {})
    folder = tmp_path_factory.mktemp("a run") / "best"
    files.write_folder(folder, model_files(card, build(config).state_dict()))
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, one of them damaged, and a text file, in a folder with a space in its name."""
    folder = tmp_path / "my pictures"
    (folder / "more").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise[0]).save(folder / "a.png")
    Image.fromarray(noise[1]).save(folder / "more" / "c.jpg")
    (folder / "b.jpg").write_bytes((folder / "more" / "c.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in this process, in an empty folder: (exit code, stdout, stderr)."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def process(*arguments, **options) -> subprocess.CompletedProcess:
    """Run a command in a process of its own."""
    environment = {**os.environ, **options.pop("env", {})}
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [*options.pop("command", FOVEATE), *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=120, **options)


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


# help and start


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy(command):
    code = "import sys; from foveate.cli import main; main(sys.argv[1:]); print('LOADED', *sys.modules)"
    done = process(*command.split(), "--help", command=(sys.executable, "-c", code), text=True)
    text, _, loaded = done.stdout.partition("LOADED")
    assert done.returncode == 0
    assert "Usage: foveate" in text
    assert not {"torch", "numpy", "PIL", "torchvision", "onnx", "onnxruntime", "rich", "pydantic"} & set(loaded.split())


def test_help_takes_less_than_three_times_the_parser_that_it_needs():
    """Processor time of both by turns, the least of five: the same on a fast, a slow and a busy machine."""

    def used(start):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def parser():
        subprocess.run([sys.executable, "-c", "import typer"], check=True)

    rows = [(used(lambda: process("--help")), used(parser)) for _ in range(5)]
    ours, least = (min(column) for column in zip(*rows, strict=True))
    assert ours < 3 * least


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_help_shows_an_example(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: foveate {command}" in out


def test_version(run):
    assert run("--version") == (0, f"foveate {__version__}\n", "")


def test_no_command_shows_what_to_do_next(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith("next  foveate ") and "foveate --help" in out


# errors: one line, the right code, nothing written

USAGE = [
    (("fitt", "x"), "fit"),
    (("fit",), "DATA"),
    (("fit", "digits", "--max-latncy", "5ms"), "--max-latency"),
    (("fit", "digits", "--max-latency", "5"), "unit is missing, as in 5ms"),
    (("fit", "digits", "--max-latency", "fast"), "--max-latency"),
    (("fit", "digits", "--max-size", "5 parsecs"), "parsecs"),
    (("fit", "digits", "--max-macs", "-3M"), "--max-macs"),
    (("fit", "digits", "--time", "0s"), "above zero"),
    (("fit", "digits", "--threads", "0"), "--threads"),
    (("fit", "digits", "--seed", "-1"), "--seed"),
    (("fit", "digits", "--bad-files", "maybe"), "skip"),
    (("fit", "digits", "--models", "resnt*"), "resnt*"),
    (("train",), "DATA"),
    (("train", "digits"), "--model"),
    (("train", "digits", "--model", "resnet81"), "resnet18"),
    (("train", "digits", "--model", "resnet18", "--recipe", "basline"), "baseline"),
    (("train", "digits", "--model", "resnet18", "epochs"), "key=value"),
    (("train", "digits", "--model", "resnet18", "=3"), "key=value"),
    (("train", "digits", "--model", "resnet18", "optim.lrr=3"), "optim.lrr"),
    (("train", "digits", "--model", "resnet18", "optim.lr=fast"), "'fast'"),
    (("train", "digits", "--model", "resnet18", "optim.lr=-1"), "lr"),
    (("train", "digits", "--model", "resnet18", "--epochs", "0"), "--epochs"),
    (("train", "digits", "--model", "resnet18", "--device", "tpu"), "cuda"),
    (("train", "--resume", "nothing-here"), "nothing-here"),
    (("eval", "nothing-here", "digits"), "nothing-here"),
    (("predict", "nothing-here", "x.jpg"), "nothing-here"),
    (("predict", ".", "x.jpg"), "config.json"),
    (("models", "vgg99"), "vgg99"),
    (("profile", "resnet81"), "resnet18"),
    (("profile", "resnet18", "--resolution", "99999"), "--resolution"),
    (("export", "nothing-here"), "nothing-here"),
]


@pytest.mark.parametrize(("arguments", "word"), USAGE, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_a_usage_error_is_one_line_and_code_2(arguments, word, run):
    quiet = ("--quiet",) if arguments[0] in ("fit", "train") else ()
    code, out, err = run(*arguments, *quiet)
    assert (code, out) == (2, "")
    assert word in one_line(err)
    assert os.listdir() == []


@pytest.mark.parametrize("command", [("fit", "-q"), ("train", "-q", "--model", "resnet18"), ("data", "check")])
def test_data_that_is_not_there_is_one_line_and_code_3(command, run):
    code, out, err = run(*command, "no-such-folder")
    assert (code, out) == (3, "")
    assert "no-such-folder" in one_line(err)
    assert os.listdir() == []


def test_a_budget_that_nothing_reaches_is_code_4_and_names_the_nearest(run):
    code, out, err = run("fit", "digits", "--max-size", "1kB", "--models", "resnet20_cifar", "--quiet")
    assert (code, out) == (4, "")
    assert "resnet20_cifar" in one_line(err)
    assert os.listdir() == []


def test_an_unexpected_error_is_one_line_that_names_debug(run, monkeypatch):
    def broken(pattern):
        raise KeyError("a\nb")

    monkeypatch.setattr("foveate.zoo.catalogue.list_models", broken)
    code, out, err = run("models")
    assert (code, out) == (1, "")
    assert "internal error: KeyError" in one_line(err)
    assert "--debug" in err


@pytest.mark.parametrize("arguments", [("models", "--debug"), ("--debug", "models")])
def test_debug_shows_the_traceback_wherever_it_stands(arguments, run, monkeypatch):
    def broken(pattern):
        raise DataError("two\nlines")

    monkeypatch.setattr("foveate.zoo.catalogue.list_models", broken)
    code, _, err = run(*arguments)
    assert code == 3
    assert "Traceback" in err
    assert err.splitlines()[-1] == "error: two lines"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted("saved at step 3; go on with --resume", 75), 75, "error: saved at step 3; go on with --resume"),
        (Interrupted("saved", 130), 130, "error: saved"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "error: /x/y: permission denied"),
    ],
)
def test_what_ends_a_command_has_its_code(error, code, line, run, monkeypatch):
    def ends(pattern):
        raise error

    monkeypatch.setattr("foveate.zoo.catalogue.list_models", ends)
    assert run("models") == (code, "", line + "\n")


DAMAGE = {
    "unknown key": (lambda t: t.replace('"num_classes"', '"num_clases"'), "num_clases"),
    "wrong type": (lambda t: t.replace('"num_classes": 3', '"num_classes": "3"'), "num_classes"),
    "out of range": (lambda t: t.replace('"num_classes": 3', '"num_classes": -3'), "num_classes"),
    "twice": (lambda t: t.replace('"num_classes": 3', '"num_classes": 3, "num_classes": 3'), "twice"),
    "huge int": (lambda t: t.replace('"num_classes": 3', f'"num_classes": {"9" * 5000}'), "config.json"),
    "empty": (lambda t: "", "empty"),
    "yaml": (lambda t: "format: foveate-model\nbomb: &a [*a, *a]\n", "line 1"),
    "python yaml": (lambda t: "!!python/object/apply:os.system ['touch x']", "line 1"),
    "unknown family": (lambda t: t.replace('"family": "resnet"', '"family": "resnt"'), "resnet"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_config_is_one_line_and_code_2_and_nothing_is_written(damage, run, model, pictures, tmp_path):
    change, word = DAMAGE[damage]
    folder = tmp_path / "model"
    text = (model / "config.json").read_text("utf-8")
    assert change(text) != text
    files.write_folder(folder, {"config.json": change(text).encode(), "model.safetensors": b""})
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for arguments in (("predict", folder, pictures / "a.png"), ("profile", folder), ("export", folder)):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert word in one_line(err)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert os.listdir() == []


def test_a_byte_order_mark_in_a_config_is_no_hindrance(run, model, pictures, tmp_path):
    content = {p.name: p.read_bytes() for p in model.iterdir()}
    files.write_folder(tmp_path / "model", content | {"config.json": b"\xef\xbb\xbf" + content["config.json"]})
    assert run("predict", tmp_path / "model", pictures / "a.png")[0] == 0


# commands


def test_predict_prints_path_label_and_probability(run, model, pictures):
    code, out, err = run("predict", model, pictures / "a.png", "--top", "3")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row[0] for row in rows] == [str(pictures / "a.png")] * 3
    assert {row[1] for row in rows} == set(CLASSES)
    assert sum(float(row[2]) for row in rows) == pytest.approx(1, abs=2e-4)


def test_predict_takes_a_run_folder_and_a_folder_of_pictures(run, model, pictures):
    (pictures / "b.jpg").unlink()
    code, out, _ = run("predict", model.parent, pictures)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(pictures / "a.png"),
        str(pictures / "more" / "c.jpg"),
    ]


def test_predict_answers_the_others_when_a_picture_is_bad(run, model, pictures):
    code, out, err = run("predict", model, pictures, pictures / "gone.jpg")
    assert code == 3
    assert len(out.splitlines()) == 2
    *errors, left_out = err.splitlines()
    assert [name in line for name, line in zip(("b.jpg", "gone.jpg"), errors, strict=True)] == [True, True]
    assert left_out == "1 left out: files that are no pictures (1)"


def test_predict_reads_a_list_from_stdin(model, pictures):
    names = f"{pictures / 'a.png'}\n\n{pictures / 'more' / 'c.jpg'}\r\n".encode()
    done = process("predict", model, "-", stdin=None, input=names)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2


def test_predict_json_is_one_object(run, model, pictures):
    code, out, _ = run("predict", model, pictures, "--json", "--top", "9")
    answer = json.loads(out)
    assert code == 3
    assert [set(p) for p in answer["predictions"]] == [ROW, {"path", "error"}, ROW]
    assert [t["label"] in CLASSES for t in answer["predictions"][0]["top"]] == [True] * 3


def test_predict_on_a_folder_without_pictures_is_code_3(run, model, tmp_path):
    assert run("predict", model, tmp_path / "work")[0] == 3


def test_predict_keeps_the_bytes_of_a_name_that_is_not_utf8(model, pictures):
    odd = os.fsencode(pictures) + b"/caf\xe9.png"
    os.rename(os.fsencode(pictures / "a.png"), odd)
    done = process("predict", model, os.fsdecode(odd), "-", stdin=None, input=odd)
    assert done.returncode == 0
    assert [line.split(b"\t")[0] for line in done.stdout.splitlines()] == [odd, odd]


def test_eval_prints_the_split_and_its_classes_from_worst_to_best(run, model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (len(CLASSES), 3, 3, 40, 40, 3), dtype=np.uint8)
    for c, name in enumerate(CLASSES):
        for s, split in enumerate(("train", "val", "test")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(noise[c, s, i]).save(folder / f"{i}.png")
    code, out, err = run("eval", model, tmp_path / "photos", "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["n"] == 9
    assert answer["accuracy"] == pytest.approx(sum(row["correct"] for row in answer["per_class"]) / 9)
    code, out, _ = run("eval", model.parent, tmp_path / "photos", "--split", "val")
    assert code == 0
    assert out.startswith("judged 9 pictures of 3 classes: val of photos (")
    assert out.splitlines()[1].startswith("val ") and "n = 9)" in out.splitlines()[1]
    assert any(line.startswith("calibration error ") for line in out.splitlines())
    shares = [float(line.split(" % ")[0].split()[-1]) for line in out.splitlines() if line.startswith("  ")]
    assert shares == sorted(shares)
    assert len(shares) == 3


WITHOUT_TORCH = "import sys; from foveate.cli import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"


def test_eval_of_an_exported_file_says_what_that_of_its_model_says_and_loads_no_torch(run, model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (len(CLASSES), 4, 40, 40, 3), dtype=np.uint8)
    for c, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(noise[c, i]).save(tmp_path / "photos" / name / f"{i}.png")
    assert run("export", model, "--out", tmp_path / "m.onnx")[0] == 0
    whole = json.loads(run("eval", model, tmp_path / "photos", "--json")[1])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "eval", tmp_path / "m.onnx", tmp_path / "photos", "--json"],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("model") == str(tmp_path / "m.onnx") and whole.pop("model")
    for key in ("ece", "ece_before", "brier", "brier_before", "ece_interval", "ece_null"):
        assert found.pop(key) == pytest.approx(whole.pop(key), abs=1e-5)
    assert found == whole and found["n"] == 12
    code, _, err = run("eval", tmp_path / "m.onnx", tmp_path / "photos", "--views", "mirror")
    assert code == 2 and "sees a picture once" in one_line(err)
    (tmp_path / "photos" / "apple" / "0.png").write_bytes(b"damaged")
    assert run("eval", tmp_path / "m.onnx", tmp_path / "photos")[0] == 3
    left = json.loads(run("eval", tmp_path / "m.onnx", tmp_path / "photos", "--bad-files", "skip", "--json")[1])
    assert left["n"] == 11 and any("bad files" in note for note in left["notes"])


def test_eval_refuses_a_split_that_is_not_there(run, model):
    code, out, err = run("eval", model, "digits", "--split", "tset")
    assert (code, out) == (2, "")
    assert "did you mean test" in one_line(err)


def test_models_lists_names_and_takes_patterns(run):
    code, out, _ = run("models", "resnet1?", "--names")
    assert (code, out.split()) == (0, ["resnet18"])
    assert "efficientnet_b0" in run("models")[1].split()
    assert "resnet20_cifar" in run("models", "net20_")[1].split()


def test_models_says_what_they_cost_and_what_is_published(run):
    out = run("models", "resnet18")[1]
    assert "11.7 M" in out and "1.81 G" in out and "69.8" in out  # torchvision's table of weights
    row = json.loads(run("models", "resnet20_cifar", "--json")[1])["models"][0]
    assert (row["params"], row["macs"], row["arxiv"]) == (269_722, 40_551_040, "1512.03385")


def test_models_filters_by_cost_and_sorts(run):
    rows = json.loads(
        run("models", "resnet*", "--max-macs", "2G", "--max-params", "12M", "--sort", "macs", "--json")[1]
    )
    costs = [(r["macs"], r["params"]) for r in rows["models"]]
    assert costs and costs == sorted(costs, key=lambda c: c[0])
    assert all(macs <= 2e9 and params <= 12e6 for macs, params in costs)
    best = json.loads(run("models", "efficientnet_b*", "--sort", "top1", "--json")[1])["models"]
    assert [r["top1"] for r in best] == sorted((r["top1"] for r in best), reverse=True)
    code, out, err = run("models", "--max-macs", "lots")
    assert (code, out) == (2, "") and "--max-macs" in one_line(err)


def test_profile_of_a_name_and_of_a_folder(run, model):
    code, out, _ = run("profile", "resnet18")
    assert code == 0
    assert "11.7 M parameters" in out
    assert "1.81 G multiply-adds" in out  # torchvision's table: 11.69 M, 1.81 GMAC
    by_name = json.loads(run("profile", "resnet20_cifar", "--resolution", "32", "--json")[1])
    by_folder = json.loads(run("profile", model, "--json")[1])
    assert by_folder["parts"][1:-1] == by_name["parts"][1:-1]
    assert sum(part["macs"] for part in by_name["parts"]) == by_name["macs"]
    assert sum(part["params"] for part in by_name["parts"]) == by_name["params"]


def test_the_architecture_of_a_folder_or_a_file_is_trained_anew(model, tmp_path):
    """That of a compressed or a searched net, say."""
    wanted = read_card(model)[0].architecture
    (tmp_path / "net.json").write_text(to_json(wanted))
    for name in (model, tmp_path / "net.json", model / "config.json"):
        plan, _ = prepare("digits", str(name), overrides=["model.layers.act=silu"])
        assert plan.architecture == replace(wanted, num_classes=10, layers=replace(wanted.layers, act="silu"))
    (tmp_path / "net.json").write_text(to_json(wanted).replace('"depths"', '"x"').replace('"stages"', '"pages"'))
    with pytest.raises(ConfigError, match=r"stages: this key is missing|pages"):
        prepare("digits", str(tmp_path / "net.json"))


def test_profile_of_an_address_on_a_hub(run, model, pictures, monkeypatch, tmp_path):
    """A folder of ours works in every command; of timm's repositories the network of the same name is counted."""
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 10}')
    folders = {"us/net": model, "timm/resnet18.a1_in1k": tmp_path}
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = lambda repo, name, *, revision: str(folders[repo] / name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    ours, folder = (json.loads(run("profile", name, "--json")[1]) for name in ("hf-hub:us/net", model))
    assert {k: v for k, v in ours.items() if k != "model"} == {k: v for k, v in folder.items() if k != "model"}
    assert run("predict", "hf-hub:us/net", pictures / "a.png")[0] == 0
    theirs = json.loads(run("profile", "hf-hub:timm/resnet18.a1_in1k", "--json")[1])
    assert theirs["params"] == 11_689_512 - 990 * 513 and theirs["resolution"] == 224
    code, _, err = run("predict", "hf-hub:timm/resnet18.a1_in1k", pictures / "a.png")
    assert code == 2 and "not a model folder of foveate" in err


def test_profile_measures(run, model):
    code, out, _ = run("profile", model, "--measure", "--threads", "1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert 0 < answer["latency"]["p10_ms"] <= answer["latency"]["median_ms"] <= answer["latency"]["p90_ms"]
    assert answer["latency"]["threads"] == 1


def test_export_writes_a_file_that_agrees(run, model, pictures, tmp_path):
    out_file = tmp_path / "out put.onnx"
    code, out, err = run("export", model, "--out", out_file, "--pictures", pictures)
    assert (code, err) == (0, "")
    assert "100.0 % of 2 real pictures" in out
    assert out_file.stat().st_size > 1_000_000


def test_export_that_disagrees_leaves_nothing(run, model, tmp_path, monkeypatch):
    def refuse(parity):
        raise FoveateError(f"the exported network differs on {parity} pictures")

    monkeypatch.setattr("foveate.deploy.write.check_parity", lambda *given: len(given[-1]))
    monkeypatch.setattr("foveate.deploy.write.require_parity", refuse)
    code, out, err = run("export", model, "--out", tmp_path / "m.onnx")
    assert (code, out, err) == (1, "", "error: the exported network differs on 32 pictures\n")
    assert not (tmp_path / "m.onnx").exists()


# streams, locales, terminals


@pytest.mark.parametrize("argument", ["models", "--version", "--help"])
def test_a_reader_that_went_away_ends_it_quietly(argument):
    reader, writer = os.pipe()
    os.close(reader)
    done = process(argument, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams_are_no_hindrance(closed):
    done = process(command=("sh", "-c", f'exec "$@" {closed}', "sh", *FOVEATE, "--version"))
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_full_disk_behind_stdout_is_one_line():
    if not os.path.exists("/dev/full"):
        return  # Linux has it
    with open("/dev/full", "wb") as full:
        done = process("--version", stdout=full)
    assert done.returncode == 1
    assert b"no space left" in one_line(done.stderr.decode()).encode()


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_an_ascii_locale_gets_ascii_signs(model):
    done = process("profile", model, env=ASCII)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b" parameters | " in done.stdout


def test_a_label_that_ascii_can_not_show_is_escaped(model, pictures):
    done = process("predict", model, pictures / "a.png", "--top", "3", env=ASCII)
    assert done.returncode == 0
    assert b"caf\\xe9" in done.stdout


NAMELESS = "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\n" + FOVEATE[2]


@pytest.mark.parametrize("home", [None, "nowhere", "/dev/null"], ids=["unset", "missing", "not a folder"])
def test_no_home_and_no_user_name_are_no_hindrance(home, model, pictures, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")}
    if home:
        environment["HOME"] = str(tmp_path / home)
    arguments = ("predict", model, pictures / "a.png") if home else ("export", model, "--out", tmp_path / "m.onnx")
    command = [sys.executable, "-c", NAMELESS, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert home or "of 32 generated pictures" in done.stdout
    assert not (tmp_path / "nowhere").exists()


def test_help_fits_40_columns():
    done = process("fit", "--help", env={"COLUMNS": "40"}, text=True)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 40


EVENTS = """
import sys
from foveate.cli import show
from foveate.events import DataEvent, EpochEvent, StageEvent, StepEvent, WarningEvent
with show.progress(quiet=False) as tell:
    tell(DataEvent(name="photos", train=3068, val=341, test=372, classes=10, left_out=2))
    tell(StageEvent("race, round 1 of 2"))
    now = {"label": "resnet18", "epoch": 1, "epochs": 1, "loss": 0.5, "images_per_s": 812.4}
    for i in range(1, 4):
        tell(StepEvent(**now, step=i, steps=3, accuracy=None, seconds_left=72))
    tell(EpochEvent(**now, step=3, lr=0.1, train_accuracy=0.95, val_accuracy=0.93, val_loss=0.2))
    tell(WarningEvent("a [bold]file[/bold] was left out"))
print("result")
"""
WATCH = (sys.executable, "-c", EVENTS)


def terminal(columns: int, **environment: str) -> str:
    """What EVENTS writes to a terminal of that width as stderr."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    child = subprocess.Popen(WATCH, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen, end = b"", time.monotonic() + 60
    while time.monotonic() < end and select.select([ours], [], [], 60)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
    assert child.communicate(timeout=60)[0] == b"result\n"
    assert child.returncode == 0
    os.close(ours)
    return seen.decode()


def test_without_a_terminal_progress_is_plain_lines_on_stderr():
    done = process(command=WATCH, text=True)
    assert done.stdout == "result\n"
    assert "\x1b" not in done.stderr
    assert done.stderr.splitlines() == [
        "photos  3,068 train · 341 val · 372 test · 10 classes · 2 files left out",
        "race, round 1 of 2",
        "resnet18  epoch 1/1  812 images/s  loss 0.500  train 95.0 %  val 93.0 %",
        "warning: a [bold]file[/bold] was left out",
    ]


def test_on_a_terminal_there_is_a_bar_with_speed_loss_and_time_left():
    seen = terminal(120)
    assert "\x1b[" in seen
    assert "812 images/s  loss 0.500  1m 12s left" in seen
    assert "warning: a [bold]file[/bold] was left out" in seen


def test_a_narrow_terminal_gets_the_numbers():
    assert "812 images/s" in terminal(40)


def test_no_color_means_no_color():
    seen = terminal(120, NO_COLOR="1")
    assert "812 images/s" in seen
    assert "\x1b[3" not in seen.replace("\x1b[3A", "")  # 30 to 38 set a colour


def test_a_dumb_terminal_gets_no_control_codes():
    assert "\x1b" not in terminal(80, TERM="dumb")


def test_progress_that_can_not_be_written_stops_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    done = process(command=WATCH, stderr=writer)
    os.close(writer)
    assert done.stdout == b"result\n"


# units and texts


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.latency_ms, "5ms", 5.0),
        (units.latency_ms, "0.005s", 5.0),
        (units.latency_ms, "800us", 0.8),
        (units.latency_ms, " 1.5 MS ", 1.5),
        (units.size_bytes, "5MB", 5_000_000),
        (units.size_bytes, "5MiB", 5_242_880),
        (units.size_bytes, "800kb", 800_000),
        (units.size_bytes, "123B", 123),
        (units.count, "300M", 300_000_000),
        (units.count, "1.2G", 1_200_000_000),
        (units.count, "12345", 12_345),
        (units.count, "3e8", 300_000_000),
        (units.time_s, "10m", 600.0),
        (units.time_s, "90s", 90.0),
        (units.time_s, "1h30m", 5400.0),
        (units.time_s, "1h 2m 3s", 3723.0),
        (units.time_s, "3h 00m", 10800.0),
    ],
)
def test_amounts(parse, text, value):
    assert parse("--x", text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("parse", [units.latency_ms, units.size_bytes, units.count, units.time_s])
@pytest.mark.parametrize(
    "text",
    ["", "ms", "-5ms", "0ms", "0", "nan", "inf", "1e999s", "5 5ms", "5,0ms", "٣ms", "5xs", "5ms!", "1h-2m", "0h 00m"],
)
def test_an_amount_that_makes_no_sense_names_the_option(parse, text):
    with pytest.raises(ConfigError, match="--max-x"):
        parse("--max-x", text)


def racer(model, resolution, accuracy, latency_ms, size_bytes, chosen=False):
    costs = {"latency_ms": latency_ms, "size_bytes": size_bytes}
    return {"model": model, "resolution": resolution, "val_accuracy": accuracy, "chosen": chosen, **costs}


SUMMARY = {
    "run": "runs/photos-1",
    "next_steps": [{"do": "foveate predict runs/photos-1/best my.jpg", "why": "ask it"}],
    "model": "efficientnet_lite0",
    "test_accuracy": 0.931,
    "test_interval": [0.9012, 0.9527],
    "test_n": 372,
    "latency_ms": 4.31,
    "size_bytes": 13_600_000,
    "macs": 385_000_000,
    "report": "runs/photos-1/report.html",
    "data": {"name": "photos/", "train": 3068, "val": 341, "test": 372, "classes": 10, "left_out": 2},
    "budget": {"text": "<= 5 ms on this device (2 threads, ONNX Runtime 1.31, fp32)"},
    "race_seconds": 372.0,
    "race": [
        racer("resnet18d", 128, 0.88, 4.9, 44.8e6),
        racer("efficientnet_lite0", 224, 0.924, 4.3, 13.6e6, chosen=True),
    ],
}


def test_the_end_of_fit_is_eight_lines():
    pad = " " * 41
    assert fit.closing(SUMMARY) == [
        "photos/   3,068 train · 341 val · 372 test · 10 classes · 2 files left out (report)",
        "budget    <= 5 ms on this device (2 threads, ONNX Runtime 1.31, fp32)",
        "raced     2 candidates · 6m 12s          model                           val    latency       size",
        f"{pad}efficientnet_lite0 (224 px)    92.4     4.3 ms    13.6 MB   <- trained on",
        f"{pad}resnet18d (128 px)             88.0     4.9 ms    44.8 MB",
        "test      93.1 % (90.1-95.3, n = 372) · 4.3 ms median · 13.6 MB · 385 M multiply-adds",
        "model     runs/photos-1/best             report  runs/photos-1/report.html",
        "next      foveate predict runs/photos-1/best my.jpg",
    ]


def test_the_quiet_end_of_fit_is_three_lines():
    assert len(fit.closing(SUMMARY, quiet=True)) == 3


def test_plain_progress_writes_about_every_ten_seconds(capsys):
    now = [0.0]
    tell = progress.Plain(sys.stdout, clock=lambda: now[0])
    for step in range(601):
        now[0] = step * 0.1
        tell(StepEvent("x", step=step, steps=600, epoch=1, epochs=2, images_per_s=10.0, loss=1.0))
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_numbers_as_people_read_them():
    assert [shown.duration(s) for s in (0.2, 59.4, 60, 372, 5000)] == ["0s", "59s", "1m 00s", "6m 12s", "1h 23m"]
    assert [shown.size(b) for b in (999, 1000, 13.6e6, 999_960, 4.5e9)] == [
        "999 B",
        "1.0 kB",
        "13.6 MB",
        "1.0 MB",
        "4.5 GB",
    ]
    assert [shown.count(n) for n in (270_000, 385e6, 1.81e9, 4.089e9)] == ["270 k", "385 M", "1.81 G", "4.09 G"]
    assert [shown.milliseconds(v) for v in (0.1834, 4.31, 123.4)] == ["0.18 ms", "4.3 ms", "123 ms"]
