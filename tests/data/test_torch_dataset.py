"""foveate.Dataset beside torchvision's ImageFolder, and through torch's own loader."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import foveate as fv
from foveate.data.index import open_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data") / "insects", np.random.default_rng(0)
    for split, n in (("train", 4), ("val", 2), ("test", 1)):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_a_split_that_is_there_is_torchvisions_image_folder(folder):
    ours, theirs = fv.Dataset(folder, "val"), ImageFolder(str(folder / "val"))
    assert (list(ours.classes), ours.class_to_idx) == (theirs.classes, theirs.class_to_idx)
    assert list(ours.targets) == theirs.targets and len(ours) == len(theirs)
    for (a, i), (b, j) in zip(ours, theirs, strict=True):
        assert i == j and np.array_equal(np.asarray(a), np.asarray(b))


def test_torchs_loader_batches_it(folder):
    made = fv.Dataset(folder, transform=fv.Preprocess(resolution=8, resize=8))
    x, y = next(iter(torch.utils.data.DataLoader(made, batch_size=5)))
    assert (x.shape, x.dtype, y.tolist()) == ((5, 3, 8, 8), torch.float32, [0, 0, 0, 0, 1])


def test_the_built_in_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    made = fv.Dataset("digits", split="all", transform=v2.PILToTensor())
    digits = load_digits()
    assert len(made) == 1797 and np.array_equal(np.bincount(made.targets), np.bincount(digits.target))
    sums = sorted(int(x[0].sum()) for x, _ in (made[i] for i in range(40)))
    assert sums[0] > 0 and made[0][0].shape == (3, 8, 8)


def test_splits_are_those_that_fit_cuts():
    found = open_data("digits", seed=3)
    for name, part in found.splits.items():
        made = fv.Dataset("digits", split=name, seed=3)
        assert made.paths == part.paths and made.targets == part.labels


def test_what_there_is_not_is_said(folder):
    with pytest.raises(fv.ConfigError, match='"all" takes all'):
        fv.Dataset(folder, "holdout")
    with pytest.raises(fv.DataError, match="no such folder"):
        fv.Dataset(folder / "nothing")
    with pytest.raises(IndexError):
        fv.Dataset(folder, "val")[4]
    assert repr(fv.Dataset(folder, "val")) == "<Dataset insects val: 4 pictures of 2 classes>"
