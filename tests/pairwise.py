"""Few rows in which every pair of choices occurs: what breaks together is nearly always two things, seldom three."""

import itertools
from collections.abc import Collection, Sequence

Choice = tuple[int, str]  # a column, one of its values
Row = tuple[str, ...]


def pairs(row: Sequence[str]) -> set[tuple[Choice, Choice]]:
    """All pairs of the choices of a row."""
    return set(itertools.combinations(enumerate(row), 2))


def every_pair(*tables: Collection[str]) -> set[tuple[Choice, Choice]]:
    """All pairs of choices of two different tables."""
    return {
        ((i, a), (j, b)) for i, j in itertools.combinations(range(len(tables)), 2) for a in tables[i] for b in tables[j]
    }


def pairwise(*tables: Collection[str], impossible: Collection[tuple[Choice, Choice]] = ()) -> list[Row]:
    """A small set of rows with every pair but the impossible ones, of which none occurs (greedy; always the same)."""
    wanted = every_pair(*tables) - set(impossible)
    used = dict.fromkeys(((i, c) for i, table in enumerate(tables) for c in table), 0)
    rows = []
    while wanted:
        row = dict(min(wanted))  # a pair that is still missing, then what covers most with it
        for i in sorted(set(range(len(tables))) - row.keys()):
            found = {}
            for c in tables[i]:
                new = {(min((i, c), other), max((i, c), other)) for other in row.items()}
                if new.isdisjoint(impossible):
                    found[c] = (len(new & wanted), -used[i, c])
            row[i] = max(found, key=found.__getitem__)
        rows.append(tuple(row[i] for i in range(len(tables))))
        wanted -= pairs(rows[-1])
        for choice in row.items():
            used[choice] += 1
    return rows
