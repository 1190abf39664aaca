"""What a server answers: equal to `foveate predict`, in order, with odd pictures as entries of their own."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from serving import COLOURS, colour_model, form, picture, served

RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)


def softmax(colour, scale=0.04):
    e = np.exp(scale * np.array(colour, float))
    return e / e.sum()


def test_the_first_line_is_the_address_and_pictures_are_answered_in_order(server):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)  # paths go behind it, with one slash or two
    assert server.ask("GET", "//healthz")[0] == server.ask("GET", "/healthz")[0] == 200
    assert server.told.keys() == {"url"}
    rows = server.predict(("a.png", picture(RED)), ("b.png", picture(BLUE)), ("c.png", picture(GREEN)))
    assert [row["name"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert [row["label"] for row in rows] == ["red", "blue", "green"]
    for row, colour in zip(rows, (RED, BLUE, GREEN), strict=True):
        assert row["probability"] == pytest.approx(softmax(colour).max(), abs=1e-6)
        assert next(iter(row["set"])) == row["label"]
    assert [row["unknown"] for row in rows] == [False, False, False]
    assert server.predict(("x.png", picture((250, 0, 0))))[0]["unknown"] is True  # 250 / 255 is over .9


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_one_raw_body_is_a_picture_whatever_its_type_says(server, kind):
    headers = {"Content-Type": kind} if kind else {}
    status, _, body = server.ask("POST", "/predict?name=my.png", picture(GREEN), headers)
    row = json.loads(body)["predictions"][0]
    assert status == 200 and (row["name"], row["label"]) == ("my.png", "green")


def test_any_field_name_will_do_and_chunks_too(server):
    body, kind = form([("upload[]", "a.png", picture(RED)), ("zzz", "b.png", picture(BLUE))])
    chunks = (body[i : i + 700] for i in range(0, len(body), 700))
    status, _, answer = server.ask("POST", "/predict", chunks, {"Content-Type": kind})
    assert status == 200, answer


def test_predictions_equal_those_of_foveate_predict(server, tmp_path):
    rng = np.random.default_rng(3)
    paths = []
    for i, kind in enumerate(("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")):
        path = tmp_path / f"{i}.{kind.lower()}"
        path.write_bytes(picture(tuple(int(v) for v in rng.integers(0, 240, 3)), (30 + 11 * i, 50), kind))
        paths.append(path)
    colour_model(tmp_path / "colours.onnx")
    command = [sys.executable, "-m", "foveate", "predict", tmp_path / "colours.onnx", *paths, "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["predictions"]
    rows = server.predict(*((p.name, p.read_bytes()) for p in paths))
    assert [row["label"] for row in rows] == [row["label"] for row in told]
    assert [row["probability"] for row in rows] == pytest.approx([row["probability"] for row in told], abs=2e-3)


def test_a_picture_that_can_not_be_read_is_an_entry_with_an_error(server):
    whole = picture(RED, (400, 300), "JPEG")
    rows = server.predict(("a", picture(RED)), ("b", b"no picture"), ("c", whole[: len(whole) // 2]), ("d", b""))
    assert rows[0]["label"] == "red" and "error" not in rows[0]
    assert [row["error"]["code"] for row in rows[1:]] == ["format", "truncated", "empty"]
    assert all("label" not in row and "\n" not in row["error"]["message"] for row in rows[1:])


def test_more_classes_heat_and_other_shares_are_had_by_asking(server):
    row = server.predict(("a.png", picture((120, 110, 10))), query="?top=2&heat=1&keep=0.95&set=0.95")[0]
    assert [t["label"] for t in row["top"]] == ["red", "green"]
    assert row["set"] == ["red", "green"]  # 1 - p of green is below .8, of blue above
    values = np.array(row["heat"]["values"])
    assert values.shape == (7, 7) and np.allclose(values, 0, atol=1e-6)  # one colour: covering changes nothing
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, :16, 0] = 180
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(half).save(file, "PNG")
    values = np.array(server.predict(("h.png", file.getvalue()), query="?heat=1")[0]["heat"]["values"])
    assert values[:, :3].min() > 0 and np.allclose(values[:, 4:], 0)  # it is red for its left half


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?top=x", 400),
        ("?keep=2", 400),
        ("?keep=0.99", 400),
        ("?nope=1", 400),
        ("?model=other", 404),
        ("?model=../../etc/passwd", 404),
        ("?model=http://127.0.0.1/x.onnx", 404),
        ("?top=99", 200),
    ],
)
def test_a_query_that_can_not_be_obeyed_is_said(server, query, status):
    got, _, body = server.ask("POST", f"/predict{query}", picture(RED))
    assert got == status and (status == 200 or "message" in json.loads(body)["error"])


def test_what_a_server_tells_of_itself(server):
    status, headers, body = server.ask("GET", "/model")
    about = json.loads(body)["models"][0]
    assert status == 200 and about["classes"] == list(COLOURS) and about["says_unknown"] and about["name"] == "colours"
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    assert described["openapi"].startswith("3.1") and "/predict" in described["paths"]
    for path in described["paths"]:
        if path != "/predict":
            assert server.ask("GET", path)[0] == 200
    assert json.loads(server.ask("GET", "/readyz")[2])["models"] == ["colours"]
    assert server.metric('foveate_requests_total{code="200",route="/predict"}') >= 1
    assert "default-src 'none'" in headers["content-security-policy"] and "server" not in headers
    assert server.ask("HEAD", "/healthz")[2] == b"" and server.ask("DELETE", "/predict")[0] == 405


def test_several_models_are_told_apart_by_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "best").mkdir(parents=True)
        classes = COLOURS if name == "one" else ("rot", "gruen", "blau")
        colour_model(tmp_path / name / "best" / "model.onnx", trust=False, classes=classes)
    with served(tmp_path, tmp_path / "one", tmp_path / "two" / "best", "--port", "0", "--quiet") as server:
        labels = [server.predict(("a", picture(RED)), query=q)[0]["label"] for q in ("", "?model=one", "?model=two")]
        assert labels == ["red", "red", "rot"]
        assert server.predict(("a", picture(RED)))[0]["unknown"] is None  # this one was not fitted for it


def test_serving_loads_no_torch(tmp_path):
    """All of the room, and the command with its model opened."""
    colour_model(tmp_path / "m.onnx")
    code = f"""
import sys
from pathlib import Path
import foveate.serve, importlib, pkgutil
for module in pkgutil.walk_packages(foveate.serve.__path__, "foveate.serve."):
    importlib.import_module(module.name)
import foveate.cli.serve
from foveate.serve.metrics import Metrics
from foveate.serve.models import Models
from foveate.serve.settings import Settings
Models([{str(tmp_path / "m.onnx")!r}], Settings(), Metrics(), print)
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "torchvision", "sklearn", "matplotlib"} & set(loaded)


def test_predict_of_an_exported_file_loads_no_torch(tmp_path):
    colour_model(tmp_path / "m.onnx")
    (tmp_path / "a.png").write_bytes(picture(GREEN))
    code = "import sys; from foveate.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    command = [sys.executable, "-c", code, "predict", str(tmp_path / "m.onnx"), str(tmp_path / "a.png")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split("\t")[1] == "green"
    assert not {"torch", "torchvision", "sklearn", "matplotlib"} & set(done.stdout.split())
