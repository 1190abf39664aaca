"""Nothing that strangers wrote reaches a terminal as it is: names of classes and files, errors of libraries, JSON."""

import io
import json
import os
import shutil
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.cli.options.output import Visible, print_json, warn
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import DataError, printable
from foveate.events import StageEvent, StepEvent, WarningEvent
from foveate.files import write_folder
from foveate.report import progress
from foveate.report.progress import place
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build, variant

NASTY = (
    "\x1b]0;PWNED\x07\x1b[31mcat",  # sets the title, and a colour
    "\x9b31m\x9d0;x\x9c",  # the same in one byte each
    "\u202egpj.exe",  # reverses what follows
    "\u2066a\u2069\u200e\u200f\u061c",
    "n\nl",
    "\r over",
    "tab\tbed",
    "\u2028x\u2029",
    "\u200bzero\u2060\ufeff\u00ad",
    "\x7f\x08\x00",
    "|pipe| <img src=x onerror=alert(1)>",
    "=1+1",
)
NAMES = tuple(name for name in NASTY if "\0" not in name)  # what a file can be called
SAFE = set("\n\t") | {chr(i) for i in range(32, 127)}


def visible(text: str) -> bool:
    """Whether no character of a printed text moves or hides anything."""
    return all(c in "\n\t" or c.isprintable() for c in text)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = replace(variant("resnet20_cifar"), num_classes=len(NASTY))
    card = ModelCard(config, NASTY, Preprocess(resolution=32, resize=32, fit="squash"), {"data": NASTY[0]})
    folder = tmp_path_factory.mktemp("m") / "best"
    write_folder(folder, model_files(card, build(config).state_dict()))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of every nasty name in folders of every nasty name."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in (n for n in NAMES if "/" not in n):
            (folder / split / name).mkdir(parents=True)
            for file in ("a.png", f"{name}.png") if split == "train" else (f"{name}.png",):
                pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / file)
    return folder


def test_printable_escapes_what_moves_or_hides():
    for text in NASTY:
        assert printable(text).isprintable(), text
    assert printable("a\n\x1b\u202e\udcff") == r"a\n\x1b\u202e\xff"
    assert printable("日本 café 🦊 «x»") == "日本 café 🦊 «x»"
    assert printable("a\tb\n", keep="\t") == "a\tb\\n"
    assert printable(chr(0xD800) + chr(0xE0001)) == r"\ud800\U000e0001"


def test_every_character_that_is_no_letter_is_escaped():
    for code in [*range(32), *range(127, 160), 0x61C, 0x200B, *range(0x200E, 0x2010), *range(0x2028, 0x202F)]:
        assert printable(chr(code)).isascii() and printable(chr(code)).isprintable(), hex(code)
    for code in [*range(0x2060, 0x2070), 0xFEFF, 0xD800, 0xDFFF, 0x1BCA0, 0xE0041]:
        assert printable(chr(code)).isascii(), hex(code)


def test_predict_shows_names_of_classes_and_files_escaped(model, photos, capsys):
    files = [str(path) for path in sorted((photos / "train").rglob("*.png"))]
    assert main(["predict", str(model), *files, "--top", str(len(NASTY))]) == 0
    out, err = capsys.readouterr()
    assert visible(out) and err == ""
    rows = out.splitlines()
    assert len(rows) == len(files) * len(NASTY)  # no name makes a row, nor a column
    assert {len(row.split("\t")) for row in rows} == {3}
    assert r"\x1b]0;PWNED\x07\x1b[31mcat" in {row.split("\t")[1] for row in rows}


def test_predict_shows_names_of_bad_files_escaped(model, tmp_path, capsys):
    bad = [tmp_path / f"{name}.jpg" for name in NAMES if "/" not in name]
    for path in bad:
        path.write_bytes(b"no picture")
    assert main(["predict", str(model), *map(str, bad), "/no/such/\x1b[31mplace\u202e.png"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and visible(err)
    assert len(err.splitlines()) == len(bad) + 1


def test_eval_and_check_and_split_show_names_escaped(model, photos, tmp_path, capsys):
    assert main(["eval", str(model), str(photos)]) == 0
    out, err = capsys.readouterr()
    assert visible(out + err) and r"n\nl" in out
    rows = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(rows) == len({n for n in NAMES if "/" not in n})
    copied = tmp_path / "copied"
    shutil.copytree(photos / "train", copied)
    for name in NAMES[:3]:
        (copied / name / f"bad {name}.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["data", "check", str(copied), "--all"]) == 3
    out, err = capsys.readouterr()
    assert visible(out + err) and r"bad \x1b]0;PWNED" in out
    assert main(["data", "split", str(photos), "--out", str(tmp_path / "\x1b[31m.csv")]) == 0
    out, err = capsys.readouterr()
    assert visible(out + err)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "no\x1b[31m\nmodel", "x.png"],
        ["eval", "runs/\u202ex", "digits"],
        ["models", "res\x1b[2Jnet*"],
        ["train", "digits", "--model", "res\x9bnet"],
        ["train", "digits", "opt\x1bim.lr=1"],
        ["data", "check", "a\u2028b"],
        ["\x1b]0;x\x07"],
        ["predict", "--t\x1b[31mop", "3"],
    ],
)
def test_what_was_given_comes_back_escaped_in_errors(words, capsys):
    assert main(words) != 0
    out, err = capsys.readouterr()
    assert visible(out + err)
    assert len(err.splitlines()) <= 1


def test_json_is_ascii_without_controls(model, photos, capsys):
    path = str(next((photos / "train").rglob("*over.png")))
    assert main(["predict", str(model), path, "--json", "--top", "99"]) == 0
    out, _ = capsys.readouterr()
    assert set(out) <= SAFE
    assert {t["label"] for t in json.loads(out)["predictions"][0]["top"]} == set(NASTY)
    print_json({"\x7f": "\x7f\x1b\u202e"})
    out, _ = capsys.readouterr()
    assert set(out) <= SAFE and json.loads(out) == {"\x7f": "\x7f\x1b\u202e"}


def test_texts_of_libraries_and_warnings_are_escaped(monkeypatch, capsys):
    def fail(*_, **__):
        warnings.warn("\x1b[31mwarned", stacklevel=1)
        warn("\x1b[31mtold")
        print("\x1b[31mprinted", file=sys.stderr)
        raise RuntimeError("\x1b[31mraised\n\u202e")

    monkeypatch.setattr("foveate.data.gate.check.check", fail)
    for words in (["data", "check", "x"], ["data", "check", "x", "--debug"]):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert main(words) == 1
        out, err = capsys.readouterr()
        assert visible(out + err)
        assert r"warning: \x1b[31mtold" in err and r"raised \u202e" in err
    monkeypatch.setattr(
        "foveate.data.gate.check.check", lambda *_, **__: (_ for _ in ()).throw(OSError(2, "\x1b", "\x1b"))
    )
    assert main(["data", "check", "x"]) == 1
    assert capsys.readouterr().err == "error: \\x1b: \\x1b\n"


def test_progress_shows_names_escaped():
    step = StepEvent(label=NASTY[0], epoch=1, epochs=2, step=1, steps=2, images_per_s=1.0, loss=0.5, seconds_left=1.0)
    said = io.StringIO()
    plain = progress.Plain(said, clock=iter([0.0, 99.0, 199.0, 299.0, 399.0]).__next__)
    for event in (StageEvent("a\n\x1b[31m"), WarningEvent("b\u202e\r"), step):
        plain(event)
        assert progress.line(event).isprintable()
    assert visible(said.getvalue()) and len(said.getvalue().splitlines()) == 3
    assert place(step).isprintable()


class Screen(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Screen])
def test_the_stream_itself_lets_nothing_through(kind):
    inner = kind()
    stream = Visible(inner)
    stream.writelines([*NASTY, "\n"])
    print("ok", "\x1b", sep="\t", file=stream)
    assert visible(inner.getvalue())
    assert inner.getvalue().endswith("ok\t\\x1b\n")
    assert stream.isatty() == inner.isatty()


def test_bytes_of_names_pass_a_pipe_but_not_a_terminal():
    name = os.fsdecode(b"caf\xe9\x9b31m")
    piped, seen = io.StringIO(), Screen()
    Visible(piped).write(name)
    Visible(seen).write(name)
    assert piped.getvalue() == "caf\udce9\\x9b31m"
    assert seen.getvalue() == "caf\\xe9\\x9b31m"


def test_the_streams_are_put_back():
    before = sys.stdout, sys.stderr
    main(["models", "resnet18"])
    assert (sys.stdout, sys.stderr) == before


def test_errors_in_python_keep_what_was_given():
    assert "\x1b" in str(DataError("\x1b"))  # an error is data; who prints it escapes
