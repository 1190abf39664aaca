"""foveate.deploy.{runtimes,compare,openvino,targets,exported}: every runtime gives the model's answers, each precision
is judged, and the best is chosen by what it costs and loses.
"""

import dataclasses
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny import TINY

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare
from foveate.deploy import openvino, processor
from foveate.deploy.classifier import Classifier
from foveate.deploy.compare import (
    Measured,
    Sample,
    choose,
    compare,
    cost_ms,
    generated,
    lost,
    measure_all,
    pairs,
    quick,
    rule,
)
from foveate.deploy.export import export_for_timing
from foveate.deploy.exported import load_exported
from foveate.deploy.parity import Agreement, check_agreement, check_parity, require_agreement, require_parity
from foveate.deploy.runtime import open_session
from foveate.deploy.runtimes import RUNTIMES, Runtime
from foveate.deploy.subject import Engine, Subject
from foveate.deploy.targets import TARGETS, check_inside, open_exported, target_of, write
from foveate.errors import ConfigError, DataError, FoveateError, WeightsError
from foveate.train.artefact import ModelCard
from foveate.zoo import build

CLASSES = ("a", "ü", "c", "d")
P = Preprocess(resolution=32, resize=36)
PICTURES = generated(16, seed=5)
BF16 = openvino.missing("bf16") is None


def logits_of(model, pictures, p=P):
    x = torch.from_numpy(np.stack([prepare(picture, p) for picture in pictures])).permute(0, 3, 1, 2)
    with torch.no_grad():
        return model(normalise(x, p)).numpy()


@pytest.fixture(scope="module")
def model():
    """A tiny network whose logits differ from picture to picture."""
    torch.manual_seed(0)
    made = build(replace(TINY["resnet"], num_classes=4)).train()
    pictures = generated(32)
    x = torch.from_numpy(np.stack([prepare(p, P) for p in pictures])).permute(0, 3, 1, 2)
    with torch.no_grad():
        for _ in range(30):
            made(normalise(x, P))
        made.eval()
        logits = made(normalise(x, P))
        linear = [m for m in made.modules() if isinstance(m, torch.nn.Linear)][-1]
        linear.weight /= logits.std(0)[:, None]
        linear.bias.copy_((linear.bias - logits.mean(0)) / logits.std(0))
    return made


@pytest.fixture(scope="module")
def subject(model):
    return Subject(model, P, CLASSES, calibration=generated(24), min_agreement=0.8)


@pytest.fixture(scope="module")
def onnx(subject):
    return subject.onnx


# -- what the engines are fed with


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_a_frame_gives_every_engine_the_pixels_of_evaluation(model, fit, monkeypatch):
    monkeypatch.setattr("foveate.deploy.subject.export_onnx", lambda m, p, classes: export_for_timing(m, p))  # quick
    p = replace(P, fit=fit)
    subject = Subject(model, p, CLASSES)
    frames = np.stack([subject.frame(picture) for picture in PICTURES])
    assert frames.shape == (16, subject.side, subject.side, 3)
    expected = logits_of(model, PICTURES, p)
    np.testing.assert_allclose(subject.logits(RUNTIMES["torch"].prepare(subject, "fp32"), frames), expected, atol=1e-4)
    got = subject.logits(RUNTIMES["onnxruntime"].prepare(subject, "fp32"), frames)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_logits_of_any_number_of_pictures_come_in_batches_of_one_size(model):
    sizes = []

    def run(pictures):
        sizes.append(len(pictures))
        return pictures.reshape(len(pictures), -1)[:, :2].astype(np.float32)

    frames = np.arange(7 * 4, dtype=np.uint8).reshape(7, 1, 4, 1).repeat(3, 3)
    got = Subject(model, P, CLASSES, batch=3).logits(Engine(run, 0, ""), frames)
    assert sizes == [3, 3, 3] and np.array_equal(got, frames.reshape(7, -1)[:, :2])


# -- OpenVINO


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_openvino_resizes_pictures_of_any_size_as_pillow_does(model, fit, kernel):
    """Its own reading of the ONNX file does not: it leaves the antialiasing out without a word."""
    p = replace(P, fit=fit, kernel=kernel)
    made = openvino.convert(export_for_timing(model, p))
    session, inside = openvino.session(made), openvino.session(made, resize_inside=True)
    for picture in PICTURES:
        require_parity(check_parity(model, p, session, [picture]))
    for picture in PICTURES[:3]:  # it takes its time for every new size
        require_parity(check_parity(model, p, inside, [picture]))
    assert (session.classes, session.preprocess) == (("0", "1", "2", "3"), p)


def test_openvino_takes_any_batch(onnx):
    session, frames = openvino.session(openvino.convert(onnx)), np.stack([p[:36, :36] for p in PICTURES])
    expected = open_session(onnx).run(frames)
    for n in (1, 2, 3, 4, 5, 16):  # more than it compiles for, each
        np.testing.assert_allclose(session.run(frames[:n]), expected[:n], atol=1e-3)


def test_int8_of_openvino_is_close_and_leaves_excluded_layers_alone(onnx):
    expected = np.concatenate([open_session(onnx).run(p[None]) for p in PICTURES])

    def error(excluded):
        net = openvino.quantised(onnx, generated(24), excluded)
        kinds = [op.get_type_name() for op in net.get_ops()]
        session = openvino.session(openvino.whole(net, onnx), precision="int8")
        got = np.concatenate([session.run(p[None]) for p in PICTURES])
        return np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()), kinds.count("FakeQuantize")

    import onnx as library

    nodes = [n.name for n in library.load_from_string(onnx).graph.node if n.op_type in ("Conv", "Gemm")]
    (whole, steps), (half, fewer) = error(()), error(nodes[1:])
    assert 0 < half < whole < 0.7 and 0 < fewer < steps


def test_openvino_files_say_for_which_processors_their_weights_hold(onnx, monkeypatch):
    for bits in (7, 8):
        monkeypatch.setattr(processor, "sums_bytes_whole", lambda exact=bits == 8: exact)
        made = openvino.whole(openvino.quantised(onnx, generated(4)), onnx)
        graph, weights = openvino.model_files(made, "int8")
        assert openvino.opened(graph, weights).metadata["int8_weights"] == processor.HOLDS[bits]
        stored = [op for op in made.get_ops() if op.get_type_name() == "Constant"]
        levels = [op.get_data() for op in stored if op.get_element_type().get_type_name() == "i8"]
        assert len(levels) > 5
        assert (max(np.abs(t.astype(int)).max() for t in levels) > 64) == (bits == 8)  # 2 * 255 * 64 < 2^15
    monkeypatch.setattr(processor, "sums_bytes_whole", lambda: False)
    with pytest.warns(UserWarning, match="OpenVINO model: int8 weights of 8 bits"):
        openvino.opened(graph, weights)


def test_openvino_phones_nobody_and_says_nothing(onnx, tmp_path):
    """In a process of its own: statistics are decided when the libraries are imported."""
    (tmp_path / "m.onnx").write_bytes(onnx)
    code = (
        "import os, sys, pathlib; from foveate.deploy import openvino; from foveate.deploy.compare import generated\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "openvino.session(openvino.whole(openvino.quantised(data, generated(4)), data), precision='int8')\n"
        "assert 'CI' not in os.environ and 'NNCF_CI' not in os.environ"
    )
    home = tmp_path / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "NNCF_CI", "CUDA_HOME")} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx")], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and not (home / "intel").exists()


def test_without_the_extra_the_reason_names_it(onnx, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert openvino.missing() == 'OpenVINO is not installed: pip install "foveate[openvino]"'
    with pytest.raises(ConfigError, match=r"pip install \"foveate\[openvino\]\""):
        openvino.convert(onnx)
    with pytest.raises(ConfigError, match=r"foveate\[openvino\]"):
        openvino.open_openvino("m.xml")


# -- comparing


@pytest.fixture(scope="module")
def compared(subject):
    labels = logits_of(subject.model, PICTURES).argmax(1)
    labels[:2] = (labels[:2] + 1) % 4  # the model itself is wrong twice
    wanted = [pair for pair in pairs(None) if pair[0] != "torch_compile"]
    return compare(subject, Sample(PICTURES, labels, "test"), wanted, max_drop=0.2)


def test_all_that_runs_here_is_measured_and_the_rest_says_why(compared, subject):
    found = {(m.engine, m.precision): m for m in compared.measured}
    absent = {(u.engine, u.precision): u.reason for u in compared.unavailable}
    assert {*found, *absent} == {pair for pair in pairs(None) if pair[0] != "torch_compile"}
    assert absent[("torch", "fp16")] == "fp16 runs on CUDA devices only"
    assert {("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")} <= set(found)
    if openvino.missing("int8") is None:
        assert {("openvino", "fp32"), ("openvino", "int8")} <= set(found)
    for m in compared.measured:
        assert m.n >= 30 and 0 < m.p10_ms <= m.median_ms <= m.p90_ms <= m.p99_ms and m.cpu_ms > 0
        assert (m.threads, m.batch, m.pictures, m.pictures_of) == (1, 1, 16, "test")
        assert m.engine.partition("_")[0] in m.runtime and "36 x 36" in m.input
    assert found[("onnxruntime", "fp32")].size_bytes == len(subject.onnx)
    assert found[("onnxruntime", "int8")].size_bytes == len(subject.int8.data)
    weights = sum(t.numel() * t.element_size() for t in subject.model.state_dict().values())
    assert found[("torch", "fp32")].size_bytes == weights


def test_full_precision_loses_nothing_and_accuracy_is_that_of_the_labels(compared):
    for m in compared.measured:
        if m.precision == "fp32":
            assert (m.agreement, m.accuracy, m.drop) == (1.0, 14 / 16, 0.0)
        else:
            assert m.agreement >= 0.75 and m.drop == pytest.approx(14 / 16 - m.accuracy)


def test_the_best_is_one_of_them_and_json_able(compared):
    import json

    assert compared.best in compared.measured and compared.best == choose(compared.measured, 0.2)
    data = json.loads(json.dumps(compared.as_dict()))
    assert len(data["runtimes"]) == len(compared.measured) + len(compared.unavailable)
    assert data["best"]["engine"] == compared.best.engine and "20 points" in data["best"]["rule"]


def test_one_thread_is_one_thread_in_every_runtime(compared):
    """Processor time over wall time is the number of threads that work; this process has threads of others, too."""
    for m in compared.measured:
        assert m.cpu_ms <= 1.5 * m.median_ms + 0.05, (m.engine, m.precision, m.cpu_ms, m.median_ms)


def test_a_fast_wrong_engine_is_seen_and_not_chosen(subject, monkeypatch):
    wrong = Runtime(("fp32",), (), lambda *_: None, lambda s, p: Engine(lambda x: np.zeros((len(x), 4), "f"), 1, "x 1"))
    broken = Runtime(
        ("fp32",), (), lambda *_: None, lambda s, p: Engine(lambda x: np.full((len(x), 4), np.nan, "f"), 1, "y 1")
    )

    def fail(subject, precision):
        raise RuntimeError("no such kernel\nat line 3")

    added = {"wrong": wrong, "nan": broken, "fails": Runtime(("fp32",), (), lambda *_: None, fail)}
    monkeypatch.setattr("foveate.deploy.compare.RUNTIMES", RUNTIMES | added)
    wanted = [("torch", "fp32"), ("wrong", "fp32"), ("nan", "fp32"), ("fails", "fp32")]
    got = compare(subject, Sample(PICTURES, name="given"), wanted)
    by = {m.engine: m for m in got.measured}
    assert by["nan"].agreement == 0 and by["wrong"].agreement < 0.9
    assert cost_ms(by["wrong"]) < cost_ms(by["torch"]) and got.best == by["torch"]
    assert [(u.engine, u.reason) for u in got.unavailable] == [("fails", "no such kernel")]


def test_measure_all_by_itself_uses_generated_pictures(model, monkeypatch):
    monkeypatch.setattr("foveate.deploy.subject.export_onnx", lambda m, p, classes: export_for_timing(m, p, 2))
    threads = torch.get_num_threads()
    got = measure_all(model, P, batch=2, runtimes=["onnxruntime:fp32"])
    (m,) = got.measured
    assert (m.engine, m.precision, m.batch, m.pictures_of, m.drop) == ("onnxruntime", "fp32", 2, "generated", None)
    assert got.best == m and "99.0% of 32 pictures (generated)" in got.rule
    assert torch.get_num_threads() == threads


def test_torch_compile_gives_the_same_answers():
    torch.manual_seed(0)
    parts = (torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    subject = Subject(torch.nn.Sequential(*parts, torch.nn.Linear(4, 4)).eval(), P, CLASSES)
    if (reason := RUNTIMES["torch_compile"].missing("fp32", "cpu")) is not None:
        assert "C++ compiler" in reason
        return
    got = compare(subject, Sample(PICTURES, name="given"), [("torch_compile", "fp32")])
    assert [(m.engine, m.agreement) for m in got.measured] == [("torch_compile", 1.0)]


def test_runtimes_are_named_alone_or_with_a_precision():
    assert pairs(["openvino:int8", "onnxruntime", "onnxruntime:int8"]) == (
        ("openvino", "int8"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    )
    assert set(quick()) < set(pairs(None)) and not {p for _, p in quick()} & {"int8"}
    with pytest.raises(ConfigError, match='runtime "openvin": did you mean openvino'):
        pairs(["openvin"])
    with pytest.raises(ConfigError, match='runtime "onnxruntime:bf16": onnxruntime has fp32, int8'):
        pairs(["onnxruntime:bf16"])


def test_pictures_are_needed(subject):
    with pytest.raises(DataError, match="no pictures"):
        compare(subject, Sample([]), [("torch", "fp32")])
    bare = dataclasses.replace(subject, calibration=())
    vars(bare)["onnx"] = subject.onnx  # made once
    with pytest.raises(DataError, match="calibrated on pictures"):
        compare(bare, Sample(PICTURES), [("onnxruntime", "int8")])


# -- choosing


def row(engine, precision, cpu_ms, drop=None, agreement=1.0, threads=1, median_ms=None):
    wall = cpu_ms if median_ms is None else median_ms
    return Measured(
        median_ms=wall,
        p10_ms=wall,
        p90_ms=wall,
        p99_ms=wall,
        cpu_ms=cpu_ms,
        n=30,
        warmup=5,
        threads=threads,
        batch=1,
        runtime=f"{engine} 1",
        precision=precision,
        device="a processor",
        input="",
        engine=engine,
        size_bytes=1,
        agreement=agreement,
        pictures=100,
        pictures_of="test",
        accuracy=None if drop is None else 0.9 - drop,
        drop=drop,
        prepare_s=0.0,
    )


FLOAT = row("onnxruntime", "fp32", 10.0, 0.0)


@pytest.mark.parametrize(
    "int8",
    [
        row("onnxruntime", "int8", 12.0, 0.0),  # slower
        row("onnxruntime", "int8", 9.8, 0.0),  # not worth it
        row("onnxruntime", "int8", 3.0, 0.011),  # less accurate
    ],
)
def test_int8_that_does_not_win_is_not_chosen(int8):
    assert choose([int8, FLOAT], 0.01) == FLOAT


def test_int8_that_wins_is_chosen_even_where_it_is_more_accurate():
    int8 = row("onnxruntime", "int8", 3.0, 0.01)
    assert choose([FLOAT, int8], 0.01) == int8  # exactly at the limit
    assert choose([FLOAT, int8, row("openvino", "int8", 2.0, -0.02)], 0.01).engine == "openvino"


def test_without_labels_classes_must_agree():
    float_, good, bad = (
        row("torch", "fp32", 10),
        row("openvino", "bf16", 5, None, 0.99),
        row("openvino", "int8", 2, None, 0.98),
    )
    assert choose([float_, good, bad]) == good and choose([float_, good, bad], 0.02) == bad
    assert lost(bad) == pytest.approx(0.02) and choose([bad]) is None and choose([]) is None


def test_one_thread_is_judged_by_processor_time_and_more_by_wall_time():
    a, b = row("torch", "fp32", 10, 0.0, median_ms=50), row("openvino", "fp32", 20, 0.0, median_ms=30)
    assert choose([a, b]) == a and "processor time" in rule([a, b])
    a, b = (replace(m, threads=2) for m in (a, b))
    assert choose([a, b]) == b and "wall time" in rule([a, b])


# -- files


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_form_is_written_opened_and_answers(subject, name, tmp_path):
    target = TARGETS[name]
    if (reason := target.missing()) is not None:
        assert "foveate[openvino]" in reason or "bf16" in reason
        return
    paths = write(target.make(subject), tmp_path / f"m{target.suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    session = open_exported(paths[-1])
    check_inside(target.make(subject), PICTURES)
    agreement = check_agreement(subject.model, P, session, PICTURES, logits_of(subject.model, PICTURES).argmax(1))
    assert agreement.top1_agreement == 1 - agreement.drop >= (1.0 if target.precision == "fp32" else 0.75)
    again = target.open(target.make(subject), 1).run(PICTURES[0][None])
    assert np.array_equal(again, session.run(PICTURES[0][None]))
    assert target_of(target.engine, target.precision) == name


def test_openvinos_own_reading_of_resize_is_caught(subject, monkeypatch):
    """As it stands in the ONNX file: without the antialiasing."""
    monkeypatch.setattr(openvino, "_pillow", named)
    noise = [np.random.default_rng(i).integers(0, 256, (150, 90, 3), dtype=np.uint8) for i in range(3)]
    with pytest.raises(FoveateError, match="own resize changes its logits"):
        check_inside(TARGETS["openvino"].make(subject), noise)


def named(resize, kernel):
    resize.set_friendly_name(openvino.RESIZE)
    return resize.output(0)


def test_weights_of_another_export_are_refused(subject, tmp_path):
    write(TARGETS["openvino"].make(subject), tmp_path / "m.xml")
    weights = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(WeightsError, match="the weights beside it are of another export"):
        open_exported(tmp_path / "m.xml")
    (tmp_path / "m.bin").unlink()
    with pytest.raises(WeightsError, match=r"m\.bin: no such file"):
        open_exported(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(weights)
    (tmp_path / "m.xml").write_text("<net></net>")
    with pytest.raises(WeightsError, match="not a classifier that foveate exported"):
        open_exported(tmp_path / "m.xml")
    with pytest.raises(WeightsError, match=r"expected a \.onnx or \.xml"):
        open_exported(tmp_path / "m.pt")


def test_an_exported_file_predicts_like_the_model_folder(subject, tmp_path):
    card = ModelCard(subject.model.config, CLASSES, P, {})
    classifier = Classifier(subject.model, card)
    (path,) = write(TARGETS["onnx"].make(subject), tmp_path / "m.onnx")
    exported = load_exported(path)
    for mine, theirs in zip(
        classifier.predict(PICTURES[:6], top=4), exported.predict(PICTURES[:6], top=4), strict=True
    ):
        assert [label for label, _ in mine] == [label for label, _ in theirs]
        np.testing.assert_allclose([p for _, p in mine], [p for _, p in theirs], atol=2e-2)
    assert exported.predict(PICTURES[0], top=1)[0][0] in CLASSES and exported.predict_logits([]).shape == (0, 4)


def test_agreement_says_what_is_lost():
    require_agreement(Agreement(100, 0.9, 0.8, 0.01, 1.0), 0.01)
    require_agreement(Agreement(100, 0.99, None, None, 1.0), 0.01)
    with pytest.raises(FoveateError, match=r"loses 2\.0 points of accuracy on 100 pictures; at most 1"):
        require_agreement(Agreement(100, 1.0, 0.8, 0.02, 1.0), 0.01)
    with pytest.raises(FoveateError, match=r"keeps the class of 98\.0% of 100 pictures; at least 99\.0%"):
        require_agreement(Agreement(100, 0.98, None, None, 1.0), 0.01)


def test_a_slower_engine_is_measured_as_slower(subject, monkeypatch):
    """The clock is right: an engine that burns 3 ms more is 3 ms slower, in processor time and on the wall."""
    quick_one = RUNTIMES["torch"].prepare(subject, "fp32")

    def burn(pictures):
        end = time.process_time() + 0.003
        while time.process_time() < end:
            pass
        return quick_one.run(pictures)

    slow = Runtime(("fp32",), (), lambda *_: None, lambda s, p: Engine(burn, 1, "slow 1"))
    monkeypatch.setattr("foveate.deploy.compare.RUNTIMES", RUNTIMES | {"slow": slow})
    got = compare(subject, Sample(PICTURES[:2]), [("torch", "fp32"), ("slow", "fp32")])
    fast, slower = got.measured
    assert slower.cpu_ms - fast.cpu_ms == pytest.approx(3, rel=0.35) and got.best == fast


def test_a_signal_after_openvino_does_not_kill():
    """Its plugin gives the thread a stack for signals and frees it with itself: the engine stays, so the stack does."""
    from foveate.deploy import openvino

    assert openvino._core() is openvino._core()
