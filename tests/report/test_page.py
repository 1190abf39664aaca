"""The run report: what it says, that it is safe, self-contained and the same every time."""

import base64
import io
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import browser, missing
from looks import faults
from PIL import Image

from foveate.report import plots as report_plots
from foveate.report.gallery import MISTAKES, Shown
from foveate.report.page import (
    SECTIONS,
    dashed,
    day,
    markdown,
    percents,
    report_view,
    visible,
    write_report,
)
from foveate.report.units import count, duration, milliseconds
from foveate.report.units import size as bytes_text

VOID = {"meta", "br", "img", "link", "hr", "input"}
NASTY = [
    "<script>alert(1)</script>",
    "\"double\" & 'single' ></td>",
    "שלום עולם",
    "café 😀 猫 👩\u200d🔬",
    "new\nline",
    "not utf-8 \udcff\udc80",
    "\u202egnp.exe",
    "a|b*c_d`e`[x](y)",
    "$x_1$ {{ 7*7 }} {% raw %}",
    "x" * 250,
]


class Page(HTMLParser):
    """Collects the tags, the text of the table headers and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.headers, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "th":
            self.headers.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)
        if "th" in self.open:
            self.headers[-1] += data


def candidate(model, latency_ms, accuracy=None, *, fits=True, chosen=False):
    measured = {"model": model, "resolution": 96, "weights": None, "latency_ms": latency_ms, "fits": fits}
    measured |= {"latency_p10_ms": 0.9 * latency_ms, "latency_p90_ms": 1.2 * latency_ms, "seconds": 71.2}
    measured |= {"size_bytes": 6_130_000, "macs": 57_300_000, "params": 1_520_000, "chosen": chosen}
    if accuracy is None:
        return measured | {"val_accuracy": None, "val_interval": None, "rounds": []}
    rounds = [{"round": 1, "epochs": 1, "val_accuracy": accuracy}]
    return measured | {"val_accuracy": accuracy, "val_interval": [accuracy - 0.04, accuracy + 0.03], "rounds": rounds}


FIXED = """{
"title": "photos-1", "command": "foveate fit photos --max-latency 5ms", "created": "2025-01-02T03:04:05+00:00",
"version": "0.1.0", "seed": 7, "device": "a processor", "threads": 2,
"environment": {"python": "3.11.2", "torch": "2.11.0"},
"budget": {"max_latency_ms": 5.0, "max_size_bytes": 5000000, "max_macs": null, "time_s": 600, "text": "5 ms, 5 MB"},
"cost": {"params": 1520000, "macs": 57300000, "size_bytes": 6130000, "onnx_bytes": 6200000, "resolution": 96,
  "layers": [{"name": "stem.conv", "kind": "Conv2d", "params": 864, "macs": 995328, "output": [32, 48, 48]}]},
"latency": {"median_ms": 3.42, "p10_ms": 3.3, "p90_ms": 3.9, "p99_ms": 5.5, "n": 200, "warmup": 10, "threads": 2,
  "batch": 1, "runtime": "onnxruntime 1.20", "precision": "float32", "device": "a processor", "input": "256 x 256"},
"parity": {"n": 64, "top1_agreement": 1.0, "max_abs_diff": 1e-5},
"training": {"recipe": {"optim": {"name": "sgd", "lr": 0.1}, "epochs": 8}, "seconds": 192.4, "epochs": 8,
  "images_per_s": 310.0},
"test": {"split": "test", "n": 372, "accuracy": 0.9234, "interval": [0.892, 0.946], "top5": 0.99, "macro_f1": 0.917,
  "ece": 0.024},
"alternatives": [{"what": "flip at test time", "val_accuracy": 0.921, "latency_ms": 6.8}],
"trust": {"kind": "temperature", "temperature": 1.4, "fitted_on": 300, "note": "", "split": "test", "n": 372,
  "ece": 0.024, "ece_before": 0.06, "ece_interval": [0.0, 0.05], "ece_null": [0.04, 0.06], "brier": 0.1,
  "brier_before": 0.12, "curve": [[0.5, 0.99], [1.0, 0.92]]},
"baselines": [{"name": "always <b>", "val_accuracy": 0.1, "test_accuracy": 0.11, "seconds": 0.0},
  {"name": "middle", "val_accuracy": 0.93, "test_accuracy": 0.9234, "seconds": 192.4}],
"warnings": [{"code": "overfit", "text": "strong over-fit of <i>this</i>"}],
"next_steps": [{"do": "foveate fit photos --time 9m", "why": "only 2 epochs fitted in"}]
}"""


def full_result(names):
    """A synthetic result with every part; class i is mistaken for class i + 1 in i % 4 of 20 pictures."""
    result, k = json.loads(FIXED), len(names)
    confusion = np.zeros((k, k), int)
    for i in range(k):
        confusion[i, (i + 1) % k] += i % 4
        confusion[i, i] += 20 - i % 4
    rows = [{"class": n, "n": 20, "correct": 20 - i % 4, "accuracy": 1 - i % 4 / 20} for i, n in enumerate(names)]
    result["test"]["confusion"] = confusion.tolist()
    result["test"]["per_class"] = [row | {"interval": [0.7, 0.99], "precision": 0.9} for row in rows]
    result["data"] = {"name": "photos", "train": 80 * k, "val": 10 * k, "test": 20 * k, "classes": names}
    result["data"]["counts"] = {
        split: dict.fromkeys(names, n) for split, n in (("train", 80), ("val", 10), ("test", 20))
    }
    result["data"] |= {"left_out": [["train/a/broken.jpg", "truncated"]], "notes": ["split made with seed 7"]}
    result["data"]["fingerprint"] = "b4d1f0c29e77"
    result["candidates"] = [candidate("small", 1.2, 0.81), candidate("middle", 3.4, 0.923, chosen=True)]
    result["candidates"] += [candidate("large", 4.9, 0.91), candidate("untrained", 19.0, fits=False)]
    result["training"]["curves"] = [
        {"step": 10 * e, "epoch": e, "loss": 2 / e, "train_accuracy": 1 - 0.5 / e, "val_accuracy": 0.9 - 0.4 / e}
        for e in range(1, 9)
    ]
    return result


def mistakes(names, number=3):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (200, 300, 3), dtype=np.uint8) for _ in range(number)]
    return [Shown(f"test/{names[0]}/{i}.jpg", p, names[0], names[1], 0.5 + i / 1000) for i, p in enumerate(pixels)]


def pages(tmp_path, result, wrong=()):
    path = write_report(tmp_path, result, wrong)
    return path.read_text("utf-8"), (tmp_path / "report.md").read_text("utf-8")


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    names = [f"class {i}" for i in range(10)]
    wrong = mistakes(names, 30)
    right = [Shown("test/class 2/9.jpg", m.pixels, "class 2", "class 2", 0.8, 255 - m.pixels) for m in wrong[:1]]
    return pages(tmp_path_factory.mktemp("ten"), full_result(names), [*right, *wrong])


def test_the_headline_is_one_sentence_with_accuracy_interval_n_latency_size_and_macs(ten):
    sentence = (
        "middle at 96 px classifies 92.3 % of 372 test pictures correctly (95% interval 89.2 to 94.6 %), "
        "takes 3.4 ms a picture, is 6.1 MB large and does 57.3 M multiply-adds."
    )
    assert sentence in ten[0]
    assert sentence in ten[1]


def test_the_parts_come_in_the_documented_order(ten):
    found = [attrs["id"] for tag, attrs in Page(ten[0]).tags if tag == "h2"]
    assert found == list(SECTIONS)


def test_warnings_next_steps_and_baselines_are_in_both_forms(ten):
    for text in ten[:2]:
        assert "foveate fit photos" in text and "only 2 epochs" in text and "Against simpler ways" in text
        assert "<i>this" not in text and "always <b>" not in text
    assert "11.0 %" in ten[1]


def test_every_budget_is_compared_with_what_was_measured(ten):
    assert "within the budget of 5 ms" in ten[0]
    assert '<span class="over">over the budget of 5 MB</span>' in ten[0]
    assert "no budget given" in ten[0]


def test_classes_are_listed_worst_first():
    rows = report_view(full_result([f"class {i}" for i in range(10)]))["classes"]
    assert [row["accuracy"] for row in rows] == sorted(row["accuracy"] for row in rows)


def test_rivals_whose_interval_reaches_the_chosen_one_are_counted(ten):
    assert "The interval of 1 other candidate within the budget reaches" in ten[0]


def test_at_most_24_mistakes_are_shown_and_the_surest_first(ten):
    shown = [attrs["src"] for tag, attrs in Page(ten[0]).tags if tag == "img"]
    assert len(shown) == MISTAKES + 2 == 26  # and a right one, with its map beside it
    assert shown[0] == report_plots.thumbnail(mistakes(["a", "b"], 30)[-1].pixels)


def test_mistakes_of_a_pair_stand_together_and_the_confusion_leads_to_them(tmp_path):
    names = ["a", "b", "c"]
    blank = np.zeros((9, 9, 3), np.uint8)
    wrong = [("a", "b", 0.5), ("b", "c", 0.9), ("a", "b", 0.7), ("b", "c", 0.4), ("b", "a", 0.6)]
    result = full_result(names)
    result["test"]["confusion"] = [[10, 2, 0], [1, 9, 2], [0, 0, 12]]
    html, _ = pages(tmp_path, result, [Shown(f"{i}.png", blank, *row) for i, row in enumerate(wrong)])
    assert re.findall(r"<small><bdi>(\d)\.png", html) == ["1", "3", "2", "0", "4"]
    places = re.findall(r'<figure id="(pair-\d)">', html)
    assert places == ["pair-0", "pair-1", "pair-2"]
    leads = re.findall(r'<a href="#pair-(\d)">(\d)</a>', html)
    assert leads[:3] == [("1", "2"), ("2", "1"), ("0", "2")]  # the matrix, row by row
    assert leads[3:] == [("1", "2"), ("0", "2"), ("2", "1")]  # the list of pairs


def test_no_folder_of_the_machine_is_named(tmp_path, monkeypatch):
    (tmp_path / "runs" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    result = full_result(["a", "b"])
    run = tmp_path / "runs" / "x"
    result["command"] = f"foveate fit /secret/place/photos --runs {tmp_path}/runs"
    result["next_steps"] = [{"do": f"foveate predict {run}/best my.jpg", "why": "ask it"}]
    result["data"]["left_out"] = [["/secret/place/photos/a/1.jpg", "truncated"], ["/secret/placebo/2.jpg", "odd"]]
    html = write_report(run, result).read_text("utf-8")
    for text in (html, (run / "report.md").read_text("utf-8")):
        assert "foveate fit photos --runs runs" in text and "foveate predict runs/x/best my.jpg" in text
        assert str(tmp_path) not in text and "/secret/place/" not in text
    assert "<bdi>photos/a/1.jpg</bdi>" in html and "/secret/placebo/2.jpg" in html


def test_a_cell_says_what_its_column_is(ten):
    row = re.search(r"<tr[^>]*><th[^>]*><bdi>class 3</bdi>.*?</tr>", ten[0], re.S)[0]
    assert re.findall(r'data-of="([^"]*)"', row)[:4] == ["class", "pictures", "correct", "accuracy"]
    assert "data-of" not in re.search(r'<table class="matrix">.*?</table>', ten[0], re.S)[0]


@pytest.mark.parametrize(
    ("moment", "said"),
    [("2025-01-02T03:04:05+00:00", "2 January 2025, 03:04 UTC"), ("yesterday", "yesterday")],
)
def test_a_moment_is_written_as_a_person_does(moment, said):
    assert day(moment) == said


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_page_in_a_browser_narrow_and_wide_light_and_dark(ten, tmp_path):
    """No sideways scroll, contrast of WCAG's AA, everything reached by keys."""
    (tmp_path / "page.html").write_text(ten[0], "utf-8")
    with browser(tmp_path / "browser") as page:
        page.open((tmp_path / "page.html").as_uri())
        assert faults(page, "report") == [] and page.told == []
        page.size(375)
        table = "document.querySelector('.scroll:has(> table.full)')"
        assert page.js(f"{table}.scrollWidth <= {table}.clientWidth"), "a table is cut"


@pytest.mark.parametrize(
    ("shape", "expected"), [((200, 300), (160, 107)), ((8, 8), (160, 160)), ((3000, 10), (1, 160))]
)
def test_a_thumbnail_is_a_jpeg_of_at_most_160_pixels_a_side(shape, expected):
    uri = report_plots.thumbnail(np.full((*shape, 3), 128, np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert (image.format, image.size) == ("JPEG", expected)
    assert abs(np.asarray(image).mean() - 128) < 3


@pytest.mark.parametrize("k", [2, 10, 30, 31, 120])
def test_every_number_of_classes_gives_a_page_whose_tags_are_closed(tmp_path, k):
    names = [f"class {i}" for i in range(k)]
    html, text = pages(tmp_path, full_result(names))
    cells = [a for tag, a in Page(html).tags if tag == "td" and a.get("class") in ("right", "wrong", "zero")]
    assert len(cells) == (k * k if k <= 30 else 0)
    assert ("Most often confused" in html) == (k > 2)
    assert all(name in html for name in names)
    assert len(text.splitlines()) < 90


def test_an_empty_result_gives_a_page_that_says_so(tmp_path):
    html, text = pages(tmp_path, {"title": "empty-1"})
    assert "Nothing was measured in this run." in html
    assert "Nothing was measured in this run." in text
    assert not [tag for tag, _ in Page(html).tags if tag in ("h2", "table", "svg", "nav")]


@pytest.mark.parametrize("part", [k for k, v in full_result(["a", "b"]).items() if isinstance(v, (dict, list))])
def test_each_part_stands_alone(tmp_path, part):
    html, _ = pages(tmp_path, {"title": "t", part: full_result(["a", "b"])[part], "unknown": {"key": 1}})
    assert "unknown" not in "".join(Page(html).text)


@pytest.mark.parametrize("part", [k for k, v in full_result(["a", "b"]).items() if isinstance(v, dict)])
def test_values_that_are_null_are_left_out_or_shown_as_a_dash(tmp_path, part):
    result = full_result(["a", "b"])
    html, text = pages(tmp_path, result | {part: dict.fromkeys(result[part])})
    assert "None" not in "".join(Page(html).text)
    assert "None" not in text


def test_numbers_that_are_not_finite_do_not_stop_the_report(tmp_path):
    result = full_result(["a", "b"])
    result["training"]["curves"][3]["loss"] = math.nan
    result["candidates"][0]["val_accuracy"] = math.inf
    html, _ = pages(tmp_path, result)
    assert not re.search(r"\b(nan|inf)\b", html)


def test_names_are_shown_escaped_and_nothing_in_them_becomes_a_tag(tmp_path):
    result = full_result(NASTY)
    result |= {"title": NASTY[0], "command": NASTY[1] + NASTY[4], "environment": {n: n for n in NASTY}}
    result["data"] |= {"name": NASTY[5], "notes": NASTY, "left_out": [[n, n] for n in NASTY]}
    result["candidates"] = [candidate(n, 1.0 + i, 0.5 + i / 20, chosen=i == 0) for i, n in enumerate(NASTY)]
    result["candidates"] += [candidate(n, 1.5 + i) for i, n in enumerate(NASTY)]
    html, _ = pages(tmp_path, result, mistakes(NASTY))
    page = Page(html)
    plain = Page(pages(tmp_path, full_result([f"c{i}" for i in range(10)]), mistakes(["a", "b"]))[0])
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert {visible(n) for n in NASTY} <= set(page.headers)
    assert "49" not in [text.strip() for text in page.text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – שלום 猫 👩\u200d🔬 a\u3000b", "plain – שלום 猫 👩\u200d🔬 a\u3000b"),
        ("a\r\n\tb\x00", "a\\r\\n\\tb\\x00"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("\u202eabc\u2066\u200b\ufeff", "\\u202eabc\\u2066\\u200b\\ufeff"),
    ],
)
def test_characters_that_hide_or_reorder_text_are_made_visible(text, shown):
    assert visible(text) == shown


def test_a_file_name_that_is_not_utf8_is_shown_escaped(tmp_path):
    wrong = Shown(os.fsdecode(b"test/a/caf\xe9.jpg"), np.zeros((9, 9, 3), np.uint8), "a", "b", 0.9)
    assert "test/a/caf\\xe9.jpg" in pages(tmp_path, {"title": "t"}, [wrong])[0]


def test_markdown_tables_keep_their_columns_whatever_the_names_are(tmp_path):
    _, text = pages(tmp_path, full_result(NASTY) | {"title": "<b>#"})
    table = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert set(bars) <= {4, 5, 7, 9}
    assert "<" not in text
    assert markdown("mobilenet_v3 _x_ a|b `c`") == r"mobilenet_v3 \_x\_ a\|b \`c\`"


def test_the_page_needs_nothing_from_outside_and_runs_nothing(ten):
    html = ten[0]
    for tag, attrs in Page(html).tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "http://" not in html and "https://" not in html and "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_the_page_forbids_scripts_and_every_outside_source(ten):
    policies = [a["content"] for t, a in Page(ten[0]).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert ten[0].startswith("<!DOCTYPE html>")


def test_every_id_is_used_once_and_every_reference_finds_its_id(ten):
    tags = Page(ten[0]).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    wanted = {a["href"][1:] for _, a in tags if a.get("href", "").startswith("#")} | set(
        re.findall(r"url\(#([^)]*)\)", ten[0])
    )
    assert len(ids) == len(set(ids))
    assert wanted <= set(ids)


def test_another_process_writes_the_same_bytes(tmp_path):
    names = ["a", "b", "c"]
    result, wrong = (
        full_result(names),
        Shown("x.jpg", np.arange(4800, dtype=np.uint8).reshape(40, 40, 3), "a", "b", 0.7),
    )
    here = write_report(tmp_path, result, [wrong]).read_bytes()
    program = (
        "import json, sys, numpy as np\n"
        "from foveate.report.gallery import Shown\n"
        "from foveate.report.page import write_report\n"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "m = Shown('x.jpg', np.arange(4800, dtype=np.uint8).reshape(40, 40, 3), 'a', 'b', 0.7)\n"
        "write_report(sys.argv[1], json.load(sys.stdin), [m])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    other = tmp_path / "other"
    other.mkdir()
    run = [sys.executable, "-c", program, str(other)]
    subprocess.run(run, input=json.dumps(result).encode(), check=True, env=os.environ | {"PYTHONHASHSEED": "5"})
    assert (other / "report.html").read_bytes() == here
    assert (other / "report.md").read_bytes() == (tmp_path / "report.md").read_bytes()


def test_plots_are_well_formed_and_take_their_colours_from_the_page():
    result = full_result(["a", "b"])
    frontier = report_plots.frontier_svg(result["candidates"], 5.0)
    for svg in (frontier, *report_plots.curves_svg(result["training"]["curves"])):
        texts = [e.text for e in ElementTree.fromstring(svg).iter("text")]
        assert "var(--ink)" in svg or "var(--muted)" in svg
        assert not [mark for mark in report_plots.VARIABLES if mark in svg]
        assert any("ms" in t or t in ("epoch", "step") for t in texts)
        assert len(svg) < 40_000
    assert "budget 5 ms" in frontier and "middle 96" in frontier


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were():
    import matplotlib

    before = dict(matplotlib.rcParams)
    report_plots.frontier_svg(full_result(["a", "b"])["candidates"], None)
    assert dict(matplotlib.rcParams) == before


def test_labels_in_a_crowd_do_not_cover_each_other():
    places = np.random.default_rng(0).uniform([2, 0.6], [9, 0.8], (40, 2)).tolist()
    crowd = [candidate(f"network_{i}", x, y) for i, (x, y) in enumerate(places)]
    boxes = []
    for text in ElementTree.fromstring(report_plots.frontier_svg(crowd, 8.0)).iter("text"):
        if (text.text or "").startswith("network"):
            x, y = float(text.get("x")), float(text.get("y"))
            boxes.append((x, y - 7, x + 4.5 * len(text.text), y + 1))
    assert len(boxes) >= 12
    for i, box in enumerate(boxes):
        assert not report_plots._hits(box, boxes[:i])


def test_without_an_accuracy_or_a_latency_there_is_no_scatter():
    assert report_plots.frontier_svg([candidate("a", 2.0), candidate("b", 0.0, 0.9)], 5.0) == ""


def test_a_long_training_is_thinned_before_it_is_drawn():
    curves = [{"step": i, "loss": 1 / (i + 1), "val_accuracy": 0.5} for i in range(20_000)]
    assert sum(map(len, report_plots.curves_svg(curves))) < 60_000


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percents(0.9234), "92.3 %"),
        (percents(1.0), "100.0 %"),
        (percents(0.99999), "99.99 %"),
        (dashed(percents)(None), "–"),
        (milliseconds(0.0417), "0.042 ms"),
        (milliseconds(1234.5), "1234 ms"),
        (bytes_text(999_950), "1.0 MB"),
        (bytes_text(512), "512 B"),
        (count(57_300_000), "57.3 M"),
        (count(0), "0"),
        (duration(59.4), "59s"),
        (duration(3725), "1h 02m"),
    ],
)
def test_numbers_are_written_with_their_unit(shown, expected):
    assert shown == expected


def test_the_stored_result_survives_json(tmp_path):
    result = full_result(["a", "b"])
    first = write_report(tmp_path, result).read_bytes()
    assert write_report(tmp_path, json.loads(json.dumps(result))).read_bytes() == first
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["report.html", "report.md"]
