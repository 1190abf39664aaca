"""Scenes of shapes that detectors and segmenters look at."""

import pytest
import torch

from foveate.data.read.shapes import scene


@pytest.fixture(scope="module")
def shapes():
    """(pictures from 0 to 1, targets of a detector, label maps) of four scenes."""
    scenes = [scene(0, i) for i in range(4)]
    pictures = torch.stack([torch.from_numpy(s.picture).permute(2, 0, 1) / 255 for s in scenes])
    targets = [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels) + 1} for s in scenes]
    return pictures, targets, torch.stack([torch.from_numpy(s.label_map) for s in scenes])
