"""foveate.deploy.classifier: a model folder predicts the same for every form of a picture."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare
from foveate.data.read.decode import decode
from foveate.data.read.formats import BadImage
from foveate.deploy.classifier import load
from foveate.errors import ConfigError, DataError, FoveateError, WeightsError
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build, variant

CLASSES = ("cat", "dog", "emu", "日本", "fox")
P = Preprocess(resolution=32, resize=36, background=(0, 0, 0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(replace(variant("resnet20_cifar"), num_classes=len(CLASSES))).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "best"
    write_folder(path, model_files(ModelCard(model.config, CLASSES, P, {}), model.state_dict()))
    return path


@pytest.fixture(scope="module")
def classifier(folder):
    return load(folder)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def as_file(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_folder_gives_the_model_the_names_and_the_preprocessing(classifier, model):
    assert (classifier.classes, classifier.preprocess, classifier.card.architecture) == (CLASSES, P, model.config)
    assert not classifier.model.training


def test_the_probabilities_are_torchs_softmax_best_first(classifier, model, pixels):
    with torch.no_grad():
        x = normalise(torch.from_numpy(prepare(pixels, P)).permute(2, 0, 1)[None], P)
        expected = torch.softmax(model(x), 1)[0]
    found = classifier.predict(pixels, top=len(CLASSES))
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
    assert sum(share for _, share in found) == pytest.approx(1)
    for name, share in found:
        assert share == pytest.approx(float(expected[CLASSES.index(name)]), abs=1e-5)


def test_every_form_of_one_picture_gives_the_same_answer(classifier, pixels, tmp_path):
    image = Image.fromarray(pixels)
    path = tmp_path / "picture.png"
    image.save(path)
    expected = classifier.predict(pixels)
    for form in (path, str(path), path.read_bytes(), image):
        assert classifier.predict(form) == expected


def test_a_list_gives_a_list_and_agrees_with_one_by_one(classifier, pixels):
    others = [pixels, pixels[:20], pixels[:, :9]] * 12  # over one batch
    found = classifier.predict(others, top=2)
    assert len(found) == 36 and all(len(row) == 2 for row in found)
    for row, one in zip(found[:3], others, strict=False):
        alone = classifier.predict(one, top=2)
        assert [name for name, _ in row] == [name for name, _ in alone]
        assert [share for _, share in row] == pytest.approx([share for _, share in alone], abs=1e-5)
    assert classifier.predict([]) == [] and classifier.predict((pixels,)) == [classifier.predict(pixels)]


def test_logits_are_float32_in_the_order_of_the_classes(classifier, pixels):
    logits = classifier.predict_logits([pixels, pixels])
    assert (logits.shape, logits.dtype) == ((2, len(CLASSES)), np.float32)
    assert CLASSES[int(logits[0].argmax())] == classifier.predict(pixels, top=1)[0][0]
    assert classifier.predict_logits([]).shape == (0, len(CLASSES))


def test_top_above_the_number_of_classes_gives_all(classifier, pixels):
    assert len(classifier.predict(pixels, top=100)) == len(CLASSES)
    with pytest.raises(ConfigError, match="top = 0"):
        classifier.predict(pixels, top=0)


def test_a_grey_array_is_three_equal_channels(classifier, pixels):
    grey = pixels[:, :, 0]
    assert classifier.predict(grey) == classifier.predict(np.stack([grey] * 3, 2))


def test_pil_images_follow_the_rules_of_files(classifier):
    rng = np.random.default_rng(1)
    clear = Image.fromarray(rng.integers(0, 256, (40, 44, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (40, 44), dtype=np.uint16))
    palette = clear.convert("RGB").quantize(16)
    for image in (clear, deep, palette, clear.convert("LA"), clear.convert("1")):
        assert classifier.predict(image) == classifier.predict(as_file(image)), image.mode


def test_a_turned_pil_image_is_set_upright(classifier, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = as_file(Image.fromarray(pixels), "JPEG", exif=exif.tobytes(), quality=95)
    assert decode(data).shape == (70, 50, 3)
    with Image.open(BytesIO(data)) as image:
        assert classifier.predict(image) == classifier.predict(data)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "F", "HSV"])
def test_pil_images_of_other_modes_are_taken(classifier, pixels, mode):
    found = classifier.predict(Image.fromarray(pixels).convert("L" if mode == "F" else "RGB").convert(mode))
    assert sum(share for _, share in found) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [3.5, None, {"a": 1}])
def test_what_is_no_picture_is_refused(classifier, wrong):
    with pytest.raises(DataError, match="expected a path, bytes, an array, a tensor or a PIL image"):
        classifier.predict(wrong)


@pytest.mark.parametrize(
    "shape, kind", [((4, 4, 3), np.float32), ((4, 4, 4), np.uint8), ((1, 4, 4, 3), np.uint8), ((0, 4, 3), np.uint8)]
)
def test_arrays_of_another_form_are_refused(classifier, shape, kind):
    with pytest.raises(DataError, match=r"expected uint8 \(H, W, 3\)"):
        classifier.predict(np.zeros(shape, kind))


def test_a_broken_picture_names_its_file(classifier, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with pytest.raises(BadImage, match=r"broken\.jpg"):
        classifier.predict(tmp_path / "broken.jpg")


def test_prediction_leaves_no_gradient_and_no_mode_change(classifier, pixels):
    classifier.predict(pixels)
    assert not classifier.model.training and all(p.grad is None for p in classifier.model.parameters())


def test_a_missing_folder_a_file_and_another_folder_are_named(folder, tmp_path):
    (tmp_path / "some.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "some.txt", "a file; expected the model folder"),
        (tmp_path / "empty", "not a model folder; it holds no config.json"),
        (folder.parent, "did you mean .*best"),
    ):
        with pytest.raises(WeightsError, match=words) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_folder_is_refused_in_one_line(folder, tmp_path, name):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_folder(tmp_path / "damaged", {**files, name: files[name][:-20]})
    with pytest.raises(FoveateError) as caught:
        load(tmp_path / "damaged")
    assert name in str(caught.value) and "\n" not in str(caught.value)
