"""Search spaces: named choices, some of them conditional, with integer vectors, canonical names and neighbours.

A *net* is a tuple of tokens, one per choice: the index of the chosen value, or UNUSED where the choice does not apply.
"""

import functools
import importlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from foveate.config import get_path, record, set_path, to_dict
from foveate.errors import ConfigError
from foveate.zoo.family import Config

Value = bool | int | float | str
Tokens = tuple[int, ...]
UNUSED = -1
ATTEMPTS = 100  # random changes before a space counts as exhausted around a net


@record
class Choice:
    """One decision. It applies when every earlier choice named in `when` has one of the values given there."""

    name: str
    values: tuple[Value, ...]
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.values or len({(type(v), v) for v in self.values}) < len(self.values):
            raise ConfigError(f"choice {self.name} = {self.values}: expected different values, at least one")


class Space:
    """Every net that a list of choices describes.

    choices     in order; a condition (`Choice.when`) refers to earlier ones.
    name        for messages and studies.
    canonical   net -> the one net that stands for all equal to it (idempotent); by default the net itself. Equal nets
                are evaluated once.
    features    nets as rows (n, d) of tokens -> (n, k) numbers beyond the tokens in which good nets resemble each
                other, invariant under `canonical`; predictors use them. None: the tokens only.
    references  column of a table -> where hypervolumes of it are measured from, by convention.
    base        the record that choices change: a choice's name is a dotted path into it ("stages.2.kernel").
    make        {name: value} of the choices that apply -> record, for spaces whose choices are no single fields of a
                base.
    read        the inverse of make: record -> {name: value}; it may raise or return anything for a record that is no
                net of the space. With a base and without make it is not needed.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        *,
        name: str = "space",
        canonical: Callable[[Tokens], Tokens] | None = None,
        features: Callable[[np.ndarray], np.ndarray] | None = None,
        base: Any = None,
        make: Callable[[Mapping[str, Value]], Any] | None = None,
        read: Callable[[Any], Mapping[str, Value]] | None = None,
        references: Mapping[str, float] | None = None,
    ) -> None:
        self.choices, self.name, self.features, self.base = tuple(choices), name, features, base
        self.make, self.read = make, read
        self.references = dict(references or {})
        self._rule = canonical
        self.origin: tuple[str, Mapping[str, Any]] | None = None  # module of spaces/, options: what made it
        self._canonical = functools.lru_cache(maxsize=100_000)(canonical) if canonical else None
        self._index = {choice.name: i for i, choice in enumerate(self.choices)}
        if not self.choices or len(self._index) < len(self.choices):
            raise ConfigError(f"space {name}: expected choices with different names, at least one")
        self._when = [self._conditions(i, choice) for i, choice in enumerate(self.choices)]
        self._digits = all(isinstance(v, str) and len(v) == 1 for c in self.choices for v in c.values)

    def _conditions(self, position: int, choice: Choice) -> tuple[tuple[int, frozenset[int]], ...]:
        """((index of an earlier choice, its tokens that allow this one), ...)."""
        out = []
        for name, values in choice.when:
            at = self._index.get(name, position)
            if at >= position:
                raise ConfigError(f"choice {choice.name}: depends on {name}, which is not an earlier choice")
            parent = self.choices[at]
            wrong = [v for v in values if v not in parent.values]
            if wrong:
                raise ConfigError(f"choice {choice.name}: {name} is never {wrong[0]!r}; its values are {parent.values}")
            out.append((at, frozenset(parent.values.index(v) for v in values)))
        return tuple(out)

    @property
    def has_conditions(self) -> bool:
        """Whether some choice does not always apply."""
        return any(self._when)

    def applies(self, position: int, tokens: Sequence[int]) -> bool:
        """Whether the choice at a position is asked, given the tokens before it."""
        return all(tokens[at] in allowed for at, allowed in self._when[position])

    @functools.cached_property
    def size(self) -> int:
        """How many nets there are, before equal ones are merged: the product of choices where none is conditional."""
        last = {at: position for position, conditions in enumerate(self._when) for at, _ in conditions}  # that asks

        @functools.cache
        def count(position: int, known: tuple[tuple[int, int], ...]) -> int:
            if position == len(self.choices):
                return 1
            tokens = dict(known)
            asked = all(tokens.get(at, UNUSED) in allowed for at, allowed in self._when[position])
            options = range(len(self.choices[position].values)) if asked else (UNUSED,)
            known = tuple((at, token) for at, token in known if last[at] > position)  # what is asked again
            if position not in last:
                return len(options) * count(position + 1, known)
            return sum(count(position + 1, (*known, (position, token))) for token in options)

        return count(0, ())

    def complete(self, tokens: Sequence[int], fill: Callable[[int], int] | None = None) -> Tokens:
        """The tokens with UNUSED wherever a choice does not apply and fill(position), by default 0, where one that
        applies has no token.
        """
        out: list[int] = []
        for i, token in enumerate(tokens):
            if not self.applies(i, out):
                out.append(UNUSED)
            else:
                out.append(token if token != UNUSED else fill(i) if fill else 0)
        return tuple(out)

    def check(self, tokens: Sequence[int]) -> Tokens:
        """The tokens as a tuple of ints; ConfigError where they are no net of this space."""
        if len(tokens) != len(self.choices):
            raise ConfigError(f"space {self.name}: {len(tokens)} tokens; expected {len(self.choices)}")
        made = tuple(int(t) for t in tokens)
        for i, (token, choice) in enumerate(zip(made, self.choices, strict=True)):
            valid = 0 <= token < len(choice.values) if self.applies(i, made) else token == UNUSED
            if not valid:
                raise ConfigError(f"space {self.name}: {choice.name} has no token {token} in {made}")
        return made

    def decode(self, tokens: Sequence[int]) -> dict[str, Value]:
        """Tokens -> {name: value} of the choices that apply."""
        made = self.check(tokens)
        return {c.name: c.values[t] for c, t in zip(self.choices, made, strict=True) if t != UNUSED}

    def encode(self, values: Mapping[str, Value]) -> Tokens:
        """{name: value} -> tokens. ConfigError for an unknown value or a choice that is missing or does not apply."""
        tokens: list[int] = []
        for choice in self.choices:
            if choice.name in values and values[choice.name] not in choice.values:
                raise ConfigError(f"{choice.name} = {values[choice.name]!r}: expected one of {choice.values}")
            tokens.append(choice.values.index(values[choice.name]) if choice.name in values else UNUSED)
        unknown = set(values) - set(self._index)
        if unknown:
            raise ConfigError(f"space {self.name}: no choice is named {min(unknown)}")
        return self.check(tokens)

    def config(self, tokens: Sequence[int]) -> Any:
        """The record of a net: what `make` says, or the base with every chosen value set at its path."""
        if self.make is not None:
            return self.make(self.decode(tokens))
        if self.base is None:
            raise ConfigError(f"space {self.name}: it has no base record; its nets stand in a table")
        made = self.base
        for path, value in self.decode(tokens).items():
            made = set_path(made, path, value)
        return made

    def locate(self, config: Config) -> Tokens:
        """The inverse of config: the net whose record is this one. ConfigError where the space has no such net."""
        try:
            if self.read is not None:
                tokens = self.encode(self.read(config))
            elif self.make is None and self.base is not None:
                tokens = self.encode({choice.name: get_path(config, choice.name) for choice in self.choices})
            else:
                raise ConfigError("it can not read records")
            made = self.config(tokens)
        except (ConfigError, KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(f"space {self.name}: this record is none of its nets ({error})") from None
        if made != config:
            raise ConfigError(f"space {self.name}: this record is none of its nets; {_difference(made, config)}")
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """The net as one word: its values, joined by commas unless all are single characters ("22212220")."""
        values = self.decode(tokens)
        words = [str(values[c.name]) if c.name in values else "-" for c in self.choices]
        return ("" if self._digits else ",").join(words)

    def parse(self, text: str) -> Tokens:
        """The inverse of text. ConfigError where the word is no net."""
        words = list(text) if self._digits else text.split(",")
        if len(words) != len(self.choices):
            raise ConfigError(f'"{text[:60]}" is no net of space {self.name}: expected {len(self.choices)} values')
        tokens = []
        for choice, word in zip(self.choices, words, strict=True):
            names = [str(v) for v in choice.values]
            if word not in names and word != "-":
                raise ConfigError(f'"{text[:60]}" is no net of space {self.name}: {choice.name} is one of {names}')
            tokens.append(names.index(word) if word in names else UNUSED)
        return self.check(tokens)

    def canonical(self, tokens: Sequence[int]) -> Tokens:
        """The net that stands for all equal to this one."""
        made = tuple(tokens)
        return self._canonical(made) if self._canonical else made

    def sample(self, rng: np.random.Generator) -> Tokens:
        """A random net: every choice that applies is uniform over its values."""
        return self._drawn((UNUSED,) * len(self.choices), rng)

    def mutate(self, tokens: Sequence[int], rng: np.random.Generator) -> Tokens:
        """A net with one choice changed at random, not equal to the given one where that is possible."""
        own = self.canonical(tokens)
        for _ in range(ATTEMPTS):
            made = self._changed(tokens, rng)
            if self.canonical(made) != own:
                break
        return made

    def _changed(self, tokens: Sequence[int], rng: np.random.Generator) -> Tokens:
        open_ = [i for i, t in enumerate(tokens) if t != UNUSED and len(self.choices[i].values) > 1]
        if not open_:
            return tuple(tokens)
        i = open_[int(rng.integers(len(open_)))]
        other = int(rng.integers(len(self.choices[i].values) - 1))
        return self._drawn([*tokens[:i], other + (other >= tokens[i]), *tokens[i + 1 :]], rng)

    def _drawn(self, tokens: Sequence[int], rng: np.random.Generator) -> Tokens:
        return self.complete(tokens, lambda i: int(rng.integers(len(self.choices[i].values))))

    def neighbours(self, tokens: Sequence[int]) -> list[Tokens]:
        """The canonical nets one changed choice away, without itself; a choice that begins to apply gets its first
        value.
        """
        own = self.canonical(tokens)
        found: dict[Tokens, None] = {}
        for i, token in enumerate(tokens):
            for other in range(len(self.choices[i].values)) if token != UNUSED else ():
                if other != token:
                    found[self.canonical(self.complete([*tokens[:i], other, *tokens[i + 1 :]]))] = None
        found.pop(own, None)
        return list(found)

    def enumerate(self) -> Iterator[Tokens]:
        """Every net, equal ones included, in the order of the choices."""
        for tokens in itertools.product(*(range(UNUSED, len(c.values)) for c in self.choices)):
            if all((t != UNUSED) == self.applies(i, tokens) for i, t in enumerate(tokens)):
                yield tokens

    def one_hot(self, nets: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """(n, d) tokens -> (n, sum of values) zeros and ones; a choice that does not apply is all zeros."""
        rows = np.asarray(nets, dtype=np.int64).reshape(-1, len(self.choices))
        return np.concatenate([rows[:, i, None] == np.arange(len(c.values)) for i, c in enumerate(self.choices)], 1)

    def __reduce__(self) -> Any:
        """For other processes: the call that made a space of ours; else its parts, whose functions are a module's."""
        if self.origin is not None:
            return make_again, self.origin
        return object.__new__, (Space,), {**self.__dict__, "_canonical": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._canonical = functools.lru_cache(maxsize=100_000)(self._rule) if self._rule else None

    def __repr__(self) -> str:
        return f"Space({self.name}, {len(self.choices)} choices, {math.log10(self.size):.1f} decades)"


def make_again(module: str, options: Mapping[str, Any]) -> Space:
    """A space of spaces/ by its module and options."""
    made: Space = importlib.import_module(f"foveate.search.spaces.{module}").space(**options)
    made.origin = module, options
    return made


def _difference(ours: Any, theirs: Any) -> str:
    """The first fields in which two records of one kind differ."""
    if type(ours) is not type(theirs):
        return f"expected a {type(ours).__name__}, not a {type(theirs).__name__}"
    a, b = to_dict(ours), to_dict(theirs)
    name = next(name for name in a if a[name] != b[name])
    return f"{name} is {str(b[name])[:60]}, in the space {str(a[name])[:60]}"
