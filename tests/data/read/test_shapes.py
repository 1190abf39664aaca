"""Generated shapes: the truth is exact, and a picture depends on its seed and index alone."""

import math

import numpy as np
import pytest
import torch

from foveate.data.read.shapes import SHAPES, inside, labelled, scene
from foveate.errors import ConfigError

AREA = {"circle": math.pi, "square": 2.0, "triangle": 3 * math.sqrt(3) / 4}  # of the shape in the circle of radius 1


@pytest.fixture(scope="module")
def scenes():
    return [scene(3, i, side=64) for i in range(200)]


def test_a_picture_does_not_depend_on_what_was_drawn_before(scenes):
    for i in (199, 0, 57):
        again = scene(3, i, side=64)
        for name in ("picture", "labels", "boxes", "masks"):
            assert np.array_equal(getattr(again, name), getattr(scenes[i], name))


def test_seed_and_index_both_change_the_picture(scenes):
    assert not np.array_equal(scene(4, 0).picture, scenes[0].picture)
    assert len({s.picture.tobytes() for s in scenes}) == len(scenes)


def test_types_and_shapes_are_those_that_are_stated(scenes):
    for s in scenes:
        n = len(s.labels)
        assert 1 <= n <= 4
        assert (s.picture.shape, s.picture.dtype) == ((64, 64, 3), np.uint8)
        assert (s.boxes.shape, s.boxes.dtype) == ((n, 4), np.float32)
        assert (s.masks.shape, s.masks.dtype) == ((n, 64, 64), bool)
        assert s.labels.dtype == s.label_map.dtype == np.int64


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_the_area_is_the_closed_form(shape, angle):
    radius = 150.0
    assert inside(shape, (200.3, 199.1), radius, angle, 400).sum() == pytest.approx(AREA[shape] * radius**2, rel=5e-3)


def test_an_upright_square_has_the_pixels_that_it_must_have():
    mask = inside("square", (8, 8), 4 * math.sqrt(2), 0.0, 16)
    assert np.array_equal(np.argwhere(mask).min(0), [4, 4]) and mask.sum() == 64
    assert mask[4:12, 4:12].all()


def test_boxes_are_those_of_torchvision_around_the_masks(scenes):
    from torchvision.ops import masks_to_boxes

    for s in scenes:
        expected = masks_to_boxes(torch.from_numpy(s.masks)) + torch.tensor([0, 0, 1, 1])  # it counts the last pixel
        assert torch.equal(torch.from_numpy(s.boxes), expected.float())


def test_shapes_do_not_overlap_and_the_label_map_says_which_is_where(scenes):
    for s in scenes:
        assert s.masks.sum(0).max() == 1
        for label, mask in zip(s.labels, s.masks, strict=True):
            assert (s.label_map[mask] == label + 1).all()
        assert np.array_equal(s.label_map > 0, s.masks.any(0))


def test_every_shape_differs_from_the_ground_in_colour(scenes):
    for s in scenes:
        ground = s.picture[~s.masks.any(0)].mean(0)
        for mask in s.masks:
            assert (np.abs(s.picture[mask].mean(0) - ground) > 0.2 * 255).all()


def test_classes_and_numbers_of_shapes_are_even(scenes):
    labels = np.concatenate([s.labels for s in scenes])
    n = len(labels)
    spread = 4 * math.sqrt(n * 2 / 9)  # four deviations of a binomial of share 1/3
    assert all(abs((labels == k).sum() - n / 3) < spread for k in range(3))
    assert {len(s.labels) for s in scenes} == {1, 2, 3, 4}


def test_pictures_for_a_classifier_have_one_shape():
    pictures, labels = labelled(0, range(5), side=32)
    assert pictures.shape == (5, 32, 32, 3)
    for i in range(5):
        one = scene(0, i, side=32, shapes=1)
        assert len(one.labels) == 1 and labels[i] == one.labels[0]
        assert np.array_equal(pictures[i], one.picture)


@pytest.mark.parametrize("wrong", [{"side": 8}, {"shapes": 0}, {"shapes": 5}])
def test_what_can_not_be_drawn_is_refused(wrong):
    with pytest.raises(ConfigError, match="1 to 4 shapes"):
        scene(0, 0, **wrong)
