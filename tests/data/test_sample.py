"""What pictures are prepared like: by the published weights, else by the network's resolution."""

import numpy as np
import pytest

from foveate.data.index import Dataset, Split
from foveate.data.preprocess import Preprocess
from foveate.runs.defaults import default_preprocess
from foveate.zoo import FAMILIES, variant


def dataset(side):
    pixels = np.zeros((2, side, side, 3), np.uint8)
    return Dataset("made", "", ("a", "b"), {"train": Split(("0", "1"), (0, 1), pixels)}, (), "", ())


def test_a_file_of_weights_is_fed_as_its_publishers_fed_it(tmp_path):
    config, file = variant("inception_v3"), str(tmp_path / "inception.safetensors")
    half = (0.5, 0.5, 0.5)
    theirs = Preprocess(299, 342, kernel="bilinear", mean=half, std=half)
    assert default_preprocess("inception_v3", config, dataset(200), file) == theirs
    assert default_preprocess("inception_v3", config, dataset(200), None) == Preprocess(299, 342)
    b0 = default_preprocess("efficientnet_b0", variant("efficientnet_b0"), dataset(200), file)
    assert (b0.resolution, b0.kernel, b0.fit) == (224, "bicubic", "crop")


def test_thumbnails_are_not_cropped():
    p = default_preprocess("resnet18", variant("resnet18"), dataset(32), "resnet18.pth")
    assert (p.fit, p.kernel, p.resolution) == ("squash", "bilinear", 224)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_preprocessing_is_one(family):
    for name, known in FAMILIES[family].published.items():
        p = default_preprocess(name, variant(name), dataset(200), "weights.pth")
        assert (p.mean, p.std, p.kernel) == (known.mean, known.std, known.interpolation)
        assert p.resolution == variant(name).resolution
