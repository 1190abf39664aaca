"""Which epoch is kept."""

import pytest

from foveate.train.checkpoint import Progress


def rows(*numbers):
    return [{"epoch": i, "val_accuracy": a, "val_loss": loss} for i, (a, loss) in enumerate(numbers, 1)]


@pytest.mark.parametrize(
    ("numbers", "best"),
    [
        (((0.5, 1.0), (0.6, 2.0), (0.5, 0.1)), 2),  # accuracy first
        (((0.6, 1.0), (0.6, 0.5), (0.6, 0.7)), 2),  # then the loss
        (((0.6, 0.5), (0.6, 0.5), (0.5, 0.1)), 2),  # then the later
        (((None, None), (0.0, 9.0)), 2),  # not evaluated: passed over
    ],
)
def test_ties_go_to_the_lower_loss_then_to_the_later_epoch(numbers, best):
    progress = Progress()
    for row in rows(*numbers):
        progress.judge(row)
    assert progress.best_epoch == best


def test_another_metric_decides_where_rows_have_one():
    progress = Progress()
    for row, score in zip(rows((0.9, 1.0), (0.8, 1.0)), (0.5, 0.7), strict=True):
        progress.judge({**row, "val_score": score})
    assert (progress.best_epoch, progress.best_accuracy, progress.best_score) == (2, 0.8, 0.7)
