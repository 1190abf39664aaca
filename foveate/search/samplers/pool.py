"""The nets among which a predictor chooses: random ones and those near good ones, drawn as arrays of tokens."""

from collections.abc import Sequence

import numpy as np

from foveate.search.samplers.searcher import History
from foveate.search.space import UNUSED, Space, Tokens

ALL = 50_000  # spaces up to this size are listed once
FAR = 20  # nets two changes away from each good one, and as many three away


class Pool:
    """Candidates of a space: `count` random nets and those near the elite, without those that are known."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.sizes = np.array([len(choice.values) for choice in space.choices])
        at = {choice.name: i for i, choice in enumerate(space.choices)}
        # per choice: (position of an earlier one, which of its tokens allow this one)
        self.when = [
            [(at[name], np.array([v in allowed for v in space.choices[at[name]].values])) for name, allowed in c.when]
            for c in space.choices
        ]
        self.listed = (
            np.array(sorted({space.canonical(net) for net in space.enumerate()})) if space.size <= ALL else None
        )
        self.columns = [] if self.listed is None else list(np.ascontiguousarray(self.listed.T))

    def draw(self, history: History, elite: Sequence[Tokens], count: int, rng: np.random.Generator) -> list[Tokens]:
        """New nets, none twice; empty where none is left among those drawn."""
        good = np.array(elite, dtype=np.int64).reshape(-1, len(self.sizes))
        if self.listed is not None:
            wanted = np.zeros(len(self.listed), dtype=bool)
            wanted[rng.permutation(len(self.listed))[:count]] = True
            for net in good:
                equal = np.zeros(len(self.listed), dtype=np.int16)
                for column, token in zip(self.columns, net, strict=True):
                    equal += column == token
                wanted |= equal >= len(net) - 1
            rows = self.listed[wanted]
        else:
            twice = self._changed(self._changed(np.repeat(good, FAR, axis=0), rng), rng)
            rows = np.concatenate([self._sample(count, rng), self._near(good, rng), twice, self._changed(twice, rng)])
        nets = dict.fromkeys(self.space.canonical(tuple(row)) for row in rows.tolist())
        return [net for net in nets if history.is_new(net)]

    def _sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, d) random nets."""
        return self._complete(rng.integers(self.sizes, size=(count, len(self.sizes))), rng)

    def _near(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Every net one changed choice away; a choice that begins to apply is drawn."""
        changes = [(i, token) for i, size in enumerate(self.sizes) for token in range(size)]
        out = np.repeat(rows[:, None], len(changes), axis=1)
        for k, (i, token) in enumerate(changes):
            out[:, k, i] = np.where(rows[:, i] == UNUSED, UNUSED, token)
        return self._complete(out.reshape(-1, len(self.sizes)), rng)

    def _changed(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Every net with one of its choices changed at random."""
        open_ = (rows != UNUSED) & (self.sizes > 1)
        at = (rng.random(rows.shape) * open_).argmax(1)
        row = np.arange(len(rows))
        sizes = np.where(open_[row, at], self.sizes[at], 2)
        other = rng.integers(sizes - 1)
        out = rows.copy()
        out[row, at] = np.where(open_[row, at], other + (other >= rows[row, at]), rows[row, at])
        return self._complete(out, rng)

    def _complete(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """UNUSED wherever a choice does not apply, a random token where one begins to."""
        for i, conditions in enumerate(self.when):
            if conditions:
                applies = np.all([(rows[:, at] != UNUSED) & allowed[rows[:, at]] for at, allowed in conditions], axis=0)
                drawn = rng.integers(self.sizes[i], size=len(rows))
                rows[:, i] = np.where(applies, np.where(rows[:, i] == UNUSED, drawn, rows[:, i]), UNUSED)
        return rows
