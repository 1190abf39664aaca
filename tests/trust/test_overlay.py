"""A map lies on the picture where the network saw it: crop, squash and letterbox undone."""

import numpy as np
import pytest

from foveate.data.preprocess import Preprocess, prepare
from foveate.trust.overlay import on_picture, overlay


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize(("width", "height"), [(200, 100), (90, 150), (64, 64)])
def test_a_spot_of_the_picture_is_marked_where_it_is(fit: str, width: int, height: int):
    """The prepared picture itself is the map: laid back, it is the picture where it was seen."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = (127 + 50 * np.sin(x / width * 5) + 50 * np.cos(y / height * 4)).astype(np.uint8)
    p = Preprocess(resolution=64, resize=72 if fit == "crop" else 64, fit=fit, kernel="bilinear")
    prepared = prepare(np.repeat(smooth[..., None], 3, 2), p)[..., 0]
    laid, seen = on_picture(prepared.astype(float), width, height, p)
    inner = seen & np.roll(seen, 3, 0) & np.roll(seen, -3, 0) & np.roll(seen, 3, 1) & np.roll(seen, -3, 1)
    inner[:4] = inner[-4:] = inner[:, :4] = inner[:, -4:] = False
    assert np.abs(laid - smooth)[inner].max() < 12
    assert np.abs(laid - smooth)[inner].mean() < 2
    assert (laid[~seen] == 0).all()
    assert seen.all() == (fit != "crop")


def test_a_map_of_one_cell_covers_all():
    laid, seen = on_picture(np.array([[2.0]]), 40, 30, Preprocess(resolution=32, fit="squash"))
    assert laid.shape == (30, 40)
    assert (laid == 2).all()
    assert seen.all()


def test_colour_shows_what_speaks_for_the_class_alone():
    pixels = np.full((10, 10, 3), (200, 120, 40), np.uint8)
    values = np.zeros((10, 10))
    values[2, 3], values[7, 7] = 5, -5
    seen = np.ones((10, 10), bool)
    seen[0] = False
    drawn = overlay(pixels, values, seen).astype(int)
    assert np.ptp(drawn[7, 7]) == 0
    assert np.ptp(drawn[2, 3]) > 60
    assert drawn[0, 0, 0] < drawn[5, 0, 0]
    assert overlay(pixels, -np.ones((10, 10)), seen).shape == (10, 10, 3)
