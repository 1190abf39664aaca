"""Random numbers as functions of (seed, epoch, sample)."""

import numpy as np

from foveate.data.random import epoch_order, uniforms


def test_a_row_depends_on_its_sample_alone():
    whole = uniforms(3, 5, range(100), 4)
    assert np.array_equal(uniforms(3, 5, [42], 4)[0], whole[42])
    assert np.array_equal(uniforms(3, 5, [99, 0], 4), whole[[99, 0]])


def test_seed_epoch_sample_and_column_all_change_the_numbers():
    base = uniforms(0, 0, [0], 2)
    assert (
        len(
            {
                base[0, 0],
                base[0, 1],
                uniforms(1, 0, [0], 1)[0, 0],
                uniforms(0, 1, [0], 1)[0, 0],
                uniforms(0, 0, [1], 1)[0, 0],
            }
        )
        == 5
    )


def test_numbers_are_uniform_and_uncorrelated():
    u = uniforms(7, 1, range(50_000), 6)
    counts = np.stack([np.histogram(u[:, c], 20, (0, 1))[0] for c in range(6)])
    chi2 = ((counts - 2500) ** 2 / 2500).sum(1)  # 19 degrees of freedom: 43.8 is the 0.1 % point
    assert (chi2 < 43.8).all()
    off_diagonal = np.corrcoef(u.T) - np.eye(6)
    assert np.abs(off_diagonal).max() < 0.02
    neighbours = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(neighbours) < 0.02


def test_every_epoch_is_another_permutation_and_the_same_one_again():
    first, second = epoch_order(1000, 0, 0), epoch_order(1000, 0, 1)
    assert sorted(first) == list(range(1000))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, epoch_order(1000, 0, 0))
