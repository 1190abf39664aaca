"""Loading a split: from memory and from files, in any order, with files that turn bad."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures, fits_in_memory, training_pictures
from foveate.data.preprocess import Preprocess, prepare
from foveate.data.read.formats import BadImage
from foveate.errors import DataError

P = Preprocess(resolution=12, resize=14)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16 + i % 3, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def batches(pictures, **options):
    return [(b.pictures.clone(), b.labels, b.aspect, b.samples) for b in pictures.epoch(7, 2, 8, **options)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_memory_and_files_give_the_same_batches_for_any_worker_count(folder, workers):
    split = open_data(folder).splits["train"]
    resident = batches(training_pictures(split, 14).load())
    streamed = batches(training_pictures(split, 14), workers=workers)
    assert len(resident) == len(streamed) == len(split) // 8
    for ours, theirs in zip(resident, streamed, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_an_epoch_can_start_in_the_middle(folder):
    split = open_data(folder).splits["train"]
    pictures = training_pictures(split, 14).load()
    for whole, later in zip(batches(pictures)[2:], batches(pictures, start=2), strict=True):
        assert np.array_equal(whole[3], later[3])


def test_evaluation_gives_every_picture_once_as_prediction_prepares_it(folder):
    split = open_data(folder).splits["train"]
    found = list(evaluation_pictures(split, P).in_order(7))
    assert [i for b in found for i in b.samples] == list(range(len(split)))
    first = prepare(np.asarray(Image.open(split.paths[0])), P)
    assert np.array_equal(found[0].pictures[0].permute(1, 2, 0).numpy(), first)


@pytest.mark.parametrize("resident", [True, False])
def test_a_file_that_turns_bad_stops_with_its_name(folder, resident):
    split = open_data(folder).splits["train"]
    with open(split.paths[3], "r+b") as file:
        file.truncate(60)
    pictures = training_pictures(split, 14)
    with pytest.raises(BadImage, match=r"\.png") as caught:
        if resident:
            pictures.load()
        else:
            batches(pictures, workers=2)
    assert caught.value.exit_code == 3


def test_a_file_that_turns_bad_is_left_out_and_listed_never_replaced(folder):
    split = open_data(folder).splits["train"]
    with open(split.paths[3], "r+b") as file:
        file.truncate(60)
    resident, streamed = training_pictures(split, 14), training_pictures(split, 14)
    resident.bad_files = streamed.bad_files = "skip"
    resident.load()
    assert len(resident) == len(split) - 1 and 3 not in resident.keep
    seen = np.concatenate([b.samples for b in streamed.in_order(8)])
    assert sorted(seen) == [i for i in range(len(split)) if i != 3]
    assert [p for p, _ in resident.left_out] == [p for p, _ in streamed.left_out] == [split.paths[3]]


def test_nothing_left_is_an_error(folder):
    split = open_data(folder).splits["train"]
    for path in split.paths:
        open(path, "wb").close()
    pictures = training_pictures(split, 14)
    pictures.bad_files = "skip"
    with pytest.raises(DataError, match="no picture is left"):
        pictures.load()


def test_a_batch_larger_than_the_split_is_the_whole_split():
    split = open_data("digits").splits["val"]
    pictures = training_pictures(split, 8).load()
    found = list(pictures.epoch(0, 0, len(split)))
    assert len(found) == 1 and torch.equal(found[0].labels.sort().values, pictures.labels.sort().values)


def test_a_petabyte_does_not_fit():
    assert fits_in_memory(10, 32)
    assert not fits_in_memory(10**9, 1024)
