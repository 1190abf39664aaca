"""Our searchers and Optuna's own samplers as Optuna's studies want them. Imported where one is made: Optuna is slow."""

import copy
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from foveate.errors import ConfigError
from foveate.search.samplers.searcher import History, Searcher, asked_of, net_of
from foveate.search.space import Space, Tokens

PATIENCE = 64  # trials behind an open one, after which the history goes on without it


class SearcherSampler(BaseSampler):
    """A searcher as a sampler: the space's choices are relative parameters, whatever else a trial asks for is random.

    Trials that are no nets of the space (another sampler's, a user's own parameters) are passed over. Parameters that
    were fixed (enqueue_trial, PartialFixedSampler) stay, and the rest of the net is completed around them. It is
    pickled and copied with its searcher; random numbers follow from the seed and the trial's number.
    """

    def __init__(self, space: Space, searcher: Searcher, seed: int) -> None:
        self.space, self.searcher, self.seed = space, searcher, seed
        self._fresh = copy.deepcopy(searcher, {id(space): space})  # for another study
        self._lock = threading.RLock()
        self._forget(None)
        self._distributions: dict[str, BaseDistribution] = {
            choice.name: CategoricalDistribution(choice.values) for choice in space.choices
        }

    def _forget(self, study: Any) -> None:
        """Begin with the history of a study."""
        self._study = None if study is None else (study._storage, study._study_id)
        self._known = 0  # trials up to here are in the history, or in _late
        self._late: list[int] = []  # numbers of those that were open when the history went on
        self._history = History(self.space)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process: the lock, and the study, which is read anew."""
        kept = dict(self.__dict__)
        for name in ("_lock", "_study", "_known", "_late", "_history", "searcher"):
            del kept[name]
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self.searcher = copy.deepcopy(self._fresh, {id(self.space): self.space})
        self._forget(None)

    def reseed_rng(self) -> None:
        """Nothing to do: random numbers follow from the seed and the trial's number."""

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The choices of the space."""
        return dict(self._distributions)

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next net's choices among those asked for; what is none of the space's choices is drawn alone."""
        self._check(study)
        ours = {name for name, given in search_space.items() if self._distributions.get(name) == given}
        found: dict[str, Any] = {}
        if ours:
            with self._lock:
                history = self._read(study, trial.number)
                net = self.searcher.propose(history, self._rng(trial.number))
            fixed = trial.system_attrs.get("fixed_params", {})
            values = self.space.decode(self._around(net, fixed, trial.number) if fixed else net)
            found = {name: value for name, value in values.items() if name in ours}
        for name, given in search_space.items():
            if name not in ours:
                found[name] = self.sample_independent(study, trial, name, given)
        return found

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Something outside the space, or a choice that the proposed net has no value for: random."""
        self._check(study)
        seed = int(self._rng(trial.number, *param_name.encode()).integers(2**32))
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *words])

    def _check(self, study: Any) -> None:
        if self.searcher.single and len(study.directions) > 1:
            name = type(self.searcher).__name__.lower()
            raise ConfigError(
                f"sampler {name} knows one objective, the study has {len(study.directions)}; "
                "take predictor, nsga2, tpe or random"
            )

    def _around(self, net: Tokens, fixed: dict[str, Any], number: int) -> Tokens:
        """The net with the fixed choices; those that begin to apply are drawn."""
        asked = asked_of(self.space, fixed)
        if asked is None:  # a value that the space does not know: Optuna refuses it, or it is another's parameter
            return net
        rng = self._rng(number, 0)
        tokens = [own if own >= 0 else token for own, token in zip(asked, net, strict=True)]
        return self.space.complete(tokens, lambda i: int(rng.integers(len(self.space.choices[i].values))))

    def _read(self, study: Any, number: int) -> History:
        """The history up to now; trials are read once, in order, as far as all have finished.

        One that waits in the queue, or stays open for long (its worker may have died), is read when it has finished.
        """
        if self._study is None or self._study[0] is not study._storage or self._study[1] != study._study_id:
            if self._study is not None:
                self.searcher = copy.deepcopy(self._fresh, {id(self.space): self.space})
            self._forget(study)
            key, storage, at = f"foveate:{type(self.searcher).__name__}", study._storage, study._study_id
            self._history.load = lambda: storage.get_study_system_attrs(at).get(key)
            self._history.save = lambda text: storage.set_study_system_attr(at, key, text)
        signs = [1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions]
        trials = study.get_trials(deepcopy=False)
        for late in [n for n in self._late if trials[n].state.is_finished()]:
            self._late.remove(late)
            self._add(trials[late], signs)
        while self._known < len(trials):
            trial = trials[self._known]
            if trial.state.is_finished():
                self._add(trial, signs)
            elif trial.state == TrialState.WAITING or self._known < len(trials) - PATIENCE:
                self._late.append(self._known)
            else:
                break
            self._known += 1
        rest = [trials[n] for n in (*self._late, *range(self._known, len(trials)))]
        open_ = (asked_of(self.space, t.params) for t in rest if t.number != number and t.params)
        self._history.pending = {self.space.canonical(self.space.complete(net)) for net in open_ if net is not None}
        return self._history

    def _add(self, trial: FrozenTrial, signs: Sequence[float]) -> None:
        """Take one finished trial into the history, if it is a net of the space."""
        net = net_of(self.space, trial.params)
        if net is None:
            return
        good = trial.state == TrialState.COMPLETE and all(math.isfinite(v) for v in trial.values)
        self._history.add(net, tuple(s * v for s, v in zip(signs, trial.values, strict=True)) if good else None)


class Reseeded(BaseSampler):
    """Optuna's sampler, made anew for each trial with a seed from (seed, trial number).

    Its knowledge is in the study, only its random numbers are not: so a study that was stopped goes on as if it had not
    been, which Optuna's samplers alone do not.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self._last: tuple[int, BaseSampler] = (-1, make(0))

    def _at(self, number: int) -> BaseSampler:
        last = self._last
        if number != last[0]:  # threads may have different trials in hand: each takes what it made
            words = np.random.SeedSequence([self.seed, number]).generate_state(1)
            self._last = last = (number, self.make(int(words[0])))
        return last[1]

    def reseed_rng(self) -> None:
        """Nothing to do: random numbers follow from the seed and the trial's number."""

    def before_trial(self, study: Any, trial: FrozenTrial) -> None:
        self._at(trial.number).before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._at(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The sampler's, and what it leaves out (random and tpe sample each parameter alone)."""
        inner = self._at(trial.number)
        found = inner.sample_relative(study, trial, search_space)
        missing = [name for name in search_space if name not in found]
        return {**found, **{n: inner.sample_independent(study, trial, n, search_space[n]) for n in missing}}

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._at(trial.number).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._at(trial.number).after_trial(study, trial, state, values)
