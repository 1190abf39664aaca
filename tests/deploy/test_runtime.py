"""foveate.deploy.runtime: hostile ONNX files are refused before onnxruntime sees them."""

import json
import os
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from foveate.config import to_dict
from foveate.data.preprocess import Preprocess
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError, DataError, FoveateError, WeightsError

ZERO = numpy_helper.from_array(np.zeros(1, np.int64))
GATHER = helper.make_node("Gather", ["wide", "i"], ["z"])

CLASSES = ["red", "green", "blue"]


def classifier(classes=CLASSES, preprocess=None):
    """The smallest classifier: the mean of each colour plus a stored weight is its logit."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "weight"], ["logits"]),
    ]
    stored = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(np.zeros(3, np.float32), "weight"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "classifier", [image], [logits], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = {"classes": json.dumps(classes), "preprocess": json.dumps(preprocess or to_dict(Preprocess()))}
    helper.set_model_props(model, facts)
    return model


@pytest.fixture
def model():
    return classifier()


@pytest.fixture
def no_onnxruntime(monkeypatch):
    """Fails the test when onnxruntime is handed a model."""

    def refuse(*_, **__):
        raise AssertionError("onnxruntime saw the file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


def refused(source, words):
    with pytest.raises(WeightsError, match=words) as caught:
        open_session(source)
    assert "\n" not in str(caught.value)


def outside(model, location, **more):
    """The same model with its weight said to be in another file."""
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_a_good_file_runs_from_bytes_and_from_a_path(model, tmp_path):
    data = model.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    pixels = np.full((2, 4, 5, 3), (10, 20, 30), np.uint8)
    for source in (data, tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
        session = open_session(source, threads=2)
        np.testing.assert_allclose(session.run(pixels), [[10, 20, 30]] * 2)
    assert (session.classes, session.preprocess) == (tuple(CLASSES), Preprocess())
    assert (session.threads, session.size_bytes) == (2, len(data))


@pytest.mark.parametrize(
    "location", ["../secret.bin", "x/../../secret.bin", "/etc/passwd", "/dev/zero", "secret.bin", ""]
)
@pytest.mark.usefixtures("no_onnxruntime")
def test_weights_outside_the_file_are_refused_wherever_they_are(model, tmp_path, location):
    (tmp_path / "models").mkdir()
    for folder in (tmp_path, tmp_path / "models"):
        (folder / "secret.bin").write_bytes(bytes(12))
    path = tmp_path / "models" / "m.onnx"
    path.write_bytes(outside(model, location).SerializeToString())
    refused(path, "outside the file")


@pytest.mark.parametrize("kind", ["symlink", "parent symlink", "hard link", "short"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_links_and_short_files_of_weights_are_refused(model, tmp_path, kind):
    secret = tmp_path / "secret" / "weights.bin"
    secret.parent.mkdir()
    secret.write_bytes(bytes(3 if kind == "short" else 12))
    folder = tmp_path / "models"
    folder.mkdir()
    location = "weights.bin"
    match kind:
        case "symlink":
            (folder / location).symlink_to(secret)
        case "parent symlink":
            (folder / "inner").symlink_to(secret.parent)
            location = "inner/weights.bin"
        case "hard link":
            os.link(secret, folder / location)
        case "short":
            (folder / location).write_bytes(bytes(3))
    path = folder / "m.onnx"
    path.write_bytes(outside(model, location, offset=0, length=12).SerializeToString())
    refused(path, "outside the file")


@pytest.mark.usefixtures("no_onnxruntime")
def test_an_external_tensor_is_found_inside_attributes_and_sparse_tensors(model):
    hidden = outside(classifier(), "x.bin").graph.initializer[1]
    for place in ("attribute", "sparse"):
        changed = classifier()
        if place == "attribute":
            changed.graph.node.append(helper.make_node("Constant", [], ["c"], value=hidden))
        else:
            sparse = onnx.SparseTensorProto(values=hidden, dims=[3])
            changed.graph.sparse_initializer.append(sparse)
        refused(changed.SerializeToString(), "outside the file")


@pytest.mark.usefixtures("no_onnxruntime")
def test_an_external_note_without_the_external_mark_is_refused(model):
    model.graph.initializer[1].external_data.add(key="location", value="x.bin")
    refused(model.SerializeToString(), "outside the file")


@pytest.mark.parametrize("domain", ["com.microsoft", "evil.example", "ai.onnx.ml", "ai.onnx.preview.training"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_operators_that_are_not_standard_are_refused(model, domain):
    model.graph.node.append(helper.make_node("Run", ["x"], ["z"], domain=domain))
    refused(model.SerializeToString(), "only standard ONNX operators")
    clean = classifier()
    clean.opset_import.append(helper.make_opsetid(domain, 1))
    refused(clean.SerializeToString(), "only standard ONNX operators")


def loop(kind):
    """A node with a body that is run 2^40 times."""
    condition = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    out = helper.make_tensor_value_info("more", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["more"])], "body", [turn, condition], [out])
    return helper.make_node(kind, ["trips", "start"], [], body=body)


@pytest.mark.parametrize("kind", ["Loop", "Scan", "If"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_loops_and_branches_are_refused(model, kind):
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**40, np.int64), "trips"))
    model.graph.node.append(loop(kind))
    refused(model.SerializeToString(), f"operator {kind}; loops and branches")


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_loop_hidden_in_the_body_of_another_operator_is_refused(model):
    hidden = helper.make_graph([loop("Loop")], "hidden", [], [])
    model.graph.node.append(helper.make_node("Relu", ["x"], ["z"], body=hidden))
    refused(model.SerializeToString(), "operator Loop")


@pytest.mark.usefixtures("no_onnxruntime")
def test_functions_are_refused_for_they_can_blow_up(model):
    one = helper.make_function(
        "", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], model.opset_import
    )
    model.functions.append(one)
    refused(model.SerializeToString(), "functions")


@pytest.mark.usefixtures("no_onnxruntime")
def test_too_many_nodes_are_refused_quickly(model):
    node = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()
    graph = b"".join(b"\x0a" + bytes([len(node)]) + node for _ in range(300_000))
    length = len(graph)
    size = b"".join(bytes([length >> 7 * i & 127 | (128 if length >> 7 * (i + 1) else 0)]) for i in range(4))
    start = time.perf_counter()
    refused(model.SerializeToString() + b"\x3a" + size + graph, "over 100,000 nodes")
    assert time.perf_counter() - start < 2


@pytest.mark.usefixtures("no_onnxruntime")
def test_much_beside_the_weights_is_refused(model):
    model.graph.doc_string = "x" * 20_000_000
    refused(model.SerializeToString(), "bytes beside the weights")
    model.graph.doc_string, model.doc_string = "", "x" * 20_000_000
    refused(model.SerializeToString(), "bytes beside the weights")


@pytest.mark.parametrize(
    "junk", [b"", b"\x00", b"hello world", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x7f", b"PK\x03\x04" * 9]
)
@pytest.mark.usefixtures("no_onnxruntime")
def test_junk_is_refused(junk):
    refused(junk, "not an ONNX file")


@pytest.mark.usefixtures("no_onnxruntime")
def test_every_cut_of_a_good_file_is_refused(model):
    data = model.SerializeToString()
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(WeightsError):
            open_session(data[:end])


@pytest.mark.usefixtures("no_onnxruntime")
def test_files_that_are_not_regular_are_never_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")
    refused("/dev/zero", "not a regular file")
    refused(tmp_path, "directory")
    refused(tmp_path / "missing.onnx", "no such file")


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_file_of_over_two_gib_is_refused_unread(tmp_path):
    path = tmp_path / "large.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)
    start = time.perf_counter()
    refused(path, "2,147,483,648 bytes; at most 2,147,483,647")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m.ClearField("metadata_props"), "not a classifier that foveate exported"),
        (lambda m: setattr(m.metadata_props[0], "value", "[1, 2, 3]"), "expected a list of texts"),
        (lambda m: setattr(m.metadata_props[0], "value", '["a", "b"]'), "a name a class"),
        (lambda m: setattr(m.metadata_props[1], "value", '{"resolution": 1000000000}'), "resolution"),
        (lambda m: setattr(m.metadata_props[1], "value", '{"evil": 1}'), 'unknown key "evil"'),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 1), "image uint8"),
        (lambda m: setattr(m.graph.input[0], "name", "pixels"), "image uint8"),
        (lambda m: m.graph.output.append(m.graph.output[0]), "expected one, logits"),
    ],
)
@pytest.mark.usefixtures("no_onnxruntime")
def test_what_is_not_our_classifier_is_refused(model, change, words):
    change(model)
    refused(model.SerializeToString(), words)


def test_a_graph_that_onnxruntime_can_not_load_is_refused_in_one_line(model):
    model.graph.node[2].input[1] = "nowhere"
    refused(model.SerializeToString(), "onnxruntime can not load it")


def test_weights_shorter_than_their_shape_are_refused(model):
    model.graph.initializer[1].raw_data = bytes(4)
    refused(model.SerializeToString(), "onnxruntime can not load it")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((1, 0, 4, 3), np.uint8),
    ],
)
def test_images_of_another_form_are_refused(model, images):
    session = open_session(model.SerializeToString())
    with pytest.raises(DataError, match=r"expected uint8 \(N, H, W, 3\)"):
        session.run(images)


def test_a_failure_inside_onnxruntime_is_one_line(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1, 2, 9], np.int64), "axes"))
    with pytest.raises(FoveateError) as caught:
        open_session(model.SerializeToString()).run(np.zeros((1, 2, 2, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_threads_below_one_are_refused(model):
    with pytest.raises(ConfigError, match="threads = 0"):
        open_session(model.SerializeToString(), threads=0)


# What a file is to the runtime: the bytes that onnxruntime gets are made from what was checked.


@pytest.fixture
def seen(monkeypatch):
    """What onnxruntime is handed: (source, options)."""
    kept, real = [], onnxruntime.InferenceSession

    def spy(source, options, **more):
        kept.append((source, options))
        return real(source, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    return kept


def test_onnxruntime_gets_what_was_checked_and_nothing_else(model, seen, tmp_path):
    unknown = b"\xfa\x7f\x06hidden"  # field 2047, which ONNX does not have
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString() + unknown)
    open_session(path)
    [(source, options)] = seen
    assert isinstance(source, bytes) and b"hidden" not in source
    assert onnx.load_from_string(source) == model
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


@pytest.mark.parametrize("place", ["front", "producer", "unknown field"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_a_file_that_is_another_format_to_onnxruntime_is_refused(model, place):
    data = model.SerializeToString()
    match place:
        case "front":  # a flatbuffer: offset of the root, then its name
            refused(b"\x18\x00\x00\x00ORTM" + data, r"onnxruntime's own format \(ORTM\)")
        case "unknown field":  # "ORTM" at byte 4 of valid protobuf
            refused(b"\xfa\x7f\x08" + b"_ORTM___" + data, r"own format \(ORTM\)")
        case "producer":
            clean = onnx.ModelProto(ir_version=10, producer_name="ORTM")
            clean.MergeFrom(model)
            clean.producer_name = "ORTM"
            assert clean.SerializeToString()[4:8] == b"ORTM"
            refused(clean.SerializeToString(), r"own format \(ORTM\)")


def test_the_mark_of_the_other_format_is_refused_wherever_it_comes_to_stand(model):
    """A model whose checked form, and not its file, would be taken for the other format."""
    model.producer_name = "ORTM"
    data = model.SerializeToString()
    moved = data[:2] + b"\xf8\x7f\x01" + data[2:]  # an unknown number in between
    assert moved[4:8] != b"ORTM"
    refused(moved, "made to be taken for")


def grown(model, *nodes, stored=()):
    """The classifier with nodes that nothing needs; a runtime makes their outputs all the same."""
    for name, value in stored:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.extend(nodes)
    model.graph.output[0].CopyFrom(model.graph.output[0])
    return model.SerializeToString()


N, F = np.int64, np.float32
LARGE = {
    "constant": (lambda: [helper.make_node("ConstantOfShape", ["n"], ["z"])], [("n", N([2**40]))]),
    "expand": (lambda: [helper.make_node("Expand", ["weight", "n"], ["z"])], [("n", N([2**30, 3]))]),
    "tile": (lambda: [helper.make_node("Tile", ["weight", "n"], ["z"])], [("n", N([2**38]))]),
    "range": (
        lambda: [helper.make_node("Range", ["a", "b", "c"], ["z"])],
        [("a", N(0)), ("b", N(2**40)), ("c", N(1))],
    ),
    "resize": (
        lambda: [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Resize", ["t", "", "n"], ["z"], mode="nearest"),
        ],
        [("n", F([1, 1, 10_000, 10_000]))],
    ),
    "pad": (lambda: [helper.make_node("Pad", ["weight", "n"], ["z"])], [("n", N([2**36, 0]))]),
    "crosswise": (
        lambda: [
            helper.make_node("Reshape", ["x", "column"], ["a"]),
            helper.make_node("Reshape", ["x", "row"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["z"]),
        ],
        [("column", N([-1, 1])), ("row", N([1, -1]))],
    ),
    "from the picture": (
        lambda: [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Mul", ["s", "n"], ["m"]),
            helper.make_node("ConstantOfShape", ["m"], ["z"]),
        ],
        [("n", N([1, 1000, 1000, 1]))],
    ),
    "gathered": (lambda: [helper.make_node("ConstantOfShape", ["n"], ["i"], value=ZERO), GATHER], [("n", N([2**27]))]),
}


@pytest.mark.parametrize("kind", [k for k in LARGE if k != "gathered"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_a_graph_that_would_make_much_of_little_is_refused(model, kind):
    nodes, stored = LARGE[kind]
    refused(grown(model, *nodes(), stored=stored), "would make [0-9,]+ numbers at a time|is not known before it runs")


@pytest.mark.usefixtures("no_onnxruntime")
def test_what_is_looked_up_many_times_is_counted(model):
    nodes, stored = LARGE["gathered"]
    refused(grown(model, *nodes(), stored=[*stored, ("wide", np.zeros((1, 100), F))]), "operator Gather would make")


@pytest.mark.usefixtures("no_onnxruntime")
def test_many_tensors_at_a_time_and_much_arithmetic_are_refused(model):
    many = [helper.make_node("ConstantOfShape", ["n"], [f"z{i}"]) for i in range(40)]
    many.append(helper.make_node("Concat", [f"z{i}" for i in range(40)], ["z"], axis=0))
    refused(grown(model, *many, stored=[("n", N([2**23]))]), "numbers at a time")
    product = [helper.make_node("ConstantOfShape", ["n"], ["a"])]
    product += [helper.make_node("MatMul", ["a", "a"], [f"p{i}"]) for i in range(50)]
    refused(grown(classifier(), *product, stored=[("n", N([8192, 8192]))]), r"e\+13 operations")


@pytest.mark.parametrize("op", ["LSTM", "RandomNormal", "Einsum", "SequenceEmpty", "NonZero", "Unique"])
@pytest.mark.usefixtures("no_onnxruntime")
def test_operators_whose_cost_can_not_be_known_are_refused(model, op):
    with pytest.raises(WeightsError, match=f"operator {op}"):
        open_session(grown(model, helper.make_node(op, [] if op.startswith(("R", "S")) else ["x"], ["z"])))


@pytest.mark.usefixtures("no_onnxruntime")
def test_two_meanings_are_refused(model):
    twice = classifier()
    twice.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "weight"))
    refused(twice.SerializeToString(), "two of its tensors have one name")
    sets = classifier()
    sets.opset_import.append(helper.make_opsetid("ai.onnx", 7))
    refused(sets.SerializeToString(), "2 sets of operators")
    large = classifier()
    large.graph.initializer[1].dims[:] = [2**40]
    refused(large.SerializeToString(), "said to be larger than the file")


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_our_own_preprocessing_is_known_whatever_its_size_follows_from(fit, seen):
    from torch import nn

    from foveate.deploy.export import export_onnx

    p = Preprocess(resolution=8, resize=10, fit=fit)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = export_onnx(net, p, ("a", "b"))
    assert open_session(data).run(np.zeros((1, 30, 20, 3), np.uint8)).shape == (1, 2)
    changed = onnx.load_from_string(data)
    next(n for n in changed.graph.node if n.op_type == "Resize").input[3] = "image/constant_0"
    with pytest.raises(WeightsError):
        open_session(changed.SerializeToString())
