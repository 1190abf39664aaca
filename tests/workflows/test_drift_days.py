"""foveate data drift: days of a log that differ are named, and streams without a change stay quiet."""

import json

import numpy as np
import pytest
from serving import colour_model, picture, served

from foveate.errors import ConfigError, DataError
from foveate.workflows.drift import compare, drift


def row(rng, day, colour=(120, 100, 80), unknown=0.05):
    """A row as a model of mean colours logs it."""
    features = np.array(colour) + rng.normal(0, 15, 3)
    z = 0.04 * features
    p = float(np.exp(z - z.max()).max() / np.exp(z - z.max()).sum())
    return {"time": f"2026-11-{day:02d}T10:00:00Z", "logits": list(z), "features": list(features), "probability": p} | {
        "unknown": bool(rng.random() < unknown)
    }


def test_streams_without_a_change_raise_no_alarm_in_95_of_100():
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(40):
        usual = [row(rng, 1) for _ in range(120)]
        stream = [row(rng, day) for day in range(1, 6) for _ in range(40)]
        alarms += bool(compare(usual, stream, seed)["alarms"])
    assert alarms <= 5  # 97.5 % of binomial(40, .05)


@pytest.mark.parametrize(
    "change", [{"colour": (90, 75, 60)}, {"colour": (60, 100, 160)}, {"colour": (135, 100, 72)}, {"unknown": 0.5}]
)
def test_darker_pictures_a_new_class_and_another_camera_are_named_with_their_day(change):
    rng = np.random.default_rng(1)
    usual = [row(rng, 1) for _ in range(150)]
    stream = [row(rng, day, **(change if day == 4 else {})) for day in range(1, 8) for _ in range(60)]
    found = compare(usual, stream)
    assert found["alarms"] == ["2026-11-04"]
    about = found["days"][3]
    assert about["why"] and (about["low"] > 0 or about["unknown_low"] > 0.3)


def test_few_pictures_say_nothing():
    rng = np.random.default_rng(2)
    usual = [row(rng, 1) for _ in range(50)]
    found = compare(usual, [row(rng, 2, (9, 9, 9)) for _ in range(5)])
    assert found["alarms"] == [] and "not tested" in found["days"][0]["note"]
    with pytest.raises(DataError, match="at least 20"):
        compare(usual[:5], usual)


def test_from_a_server_to_the_day_that_differs(tmp_path):
    model = colour_model(tmp_path / "m.onnx")
    rng = np.random.default_rng(3)

    def pictures(n, dark):
        made = np.clip(np.array((150, 100, 60)) * dark + rng.normal(0, 12, (n, 3)), 0, 255).astype(int)
        return [(str(i), picture(tuple(map(int, c)), (20, 20))) for i, c in enumerate(made)]

    data = tmp_path / "data"
    for split, n in (("train", 4), ("val", 40)):
        for label in ("red", "green"):
            (data / split / label).mkdir(parents=True)
            for name, content in pictures(n, 1.0):
                (data / split / label / f"{label}{name}.png").write_bytes(content)
    log = tmp_path / "log"
    with served(tmp_path, model, "--port", "0", "--log-predictions", log, "--thumbnails") as server:
        server.predict(*pictures(40, 0.6))
        assert server.stop() == 0
    (file,) = log.glob("*/*.jsonl")
    line = json.loads(file.read_text().splitlines()[0])
    assert set(line) == {"schema", "time", "model", "label", "probability", "unknown", "strangeness", "logits"} | {
        "features",
        "thumbnail",
    }
    found = drift(log, str(model), data, out=tmp_path / "next")
    assert found["alarms"] == [file.parent.name] and len(found["handed_over"]) == 40
    assert (tmp_path / "next" / found["handed_over"][0]).read_bytes()[:2] == b"\xff\xd8"
    assert drift(log, str(model), reference=log)["alarms"] == []
    with pytest.raises(ConfigError, match="--reference"):
        drift(log, str(model))
    with pytest.raises(DataError, match="rows of other models"):
        drift(log, str(colour_model(tmp_path / "other.onnx", scale=0.05)), reference=log)
