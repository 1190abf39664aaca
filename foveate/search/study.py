"""Run a sampler against an evaluate function under a budget of different nets; stop and go on at will.

result = run(space, evaluate, sampler, budget=200, storage="sqlite:///search.db", name="photos")
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from foveate.errors import ConfigError
from foveate.search.samplers.searcher import net_of
from foveate.search.space import Space, Tokens
from foveate.search.workers import (
    ASKED,
    ERROR,
    OWNER,
    PAUSE_S,
    SEEN,
    adopt,
    fail_stale,
    is_given_up,
    mark,
    me,
    patient,
    running,
    seen,
    shared_storage,
    take_over,
)

Scores = tuple[float, ...]
Evaluate = Callable[[Tokens], float | Scores]
STALLED = 200  # trials in a row that repeat known nets; then the search ends, for its sampler has nothing new to say
REPEAT = "repeat of"  # a key in a trial's user attributes

Note = Callable[[str, Any], None]  # key, value: kept with the trial
EvaluateAndNote = Callable[[Tokens, Note], float | Scores]


class Found(NamedTuple):
    """One evaluated net of a study with what was noted of it; values None: it failed, error says why."""

    net: Tokens
    values: Scores | None
    facts: Mapping[str, Any]
    number: int

    @property
    def error(self) -> str:
        """Why there are no values."""
        return str(self.facts.get(ERROR, ""))


def run(
    space: Space,
    evaluate: Evaluate,
    sampler: Any,
    *,
    budget: int,
    directions: Sequence[str] = ("maximize",),
    storage: str | None = None,
    name: str = "search",
) -> list[Found]:
    """Evaluate up to `budget` different nets; returns them in order, also those of an earlier run in the same storage.

    evaluate    net (canonical tokens) -> score, or a tuple of one per direction. An exception, a number that is not
                finite and a lack of memory are a failed trial: the search goes on and the net is not asked for again.
    sampler     any Optuna sampler (foveate.search.SAMPLERS).
    storage     None: in memory; else what Optuna takes ("sqlite:///file.db"). A study of that name is continued; a
                trial that was running when its process died is evaluated first (one process a study).
    A net equal to a known one is not evaluated and not counted: its trial gets the known scores.
    """
    if budget < 1:
        raise ConfigError(f"budget = {budget}; expected at least 1")
    options: dict[str, Any] = {"budget": budget, "name": name, "directions": directions, "alone": True}
    with contextlib.nullcontext() if storage is None else shared_storage(storage) as base:
        return work(space, lambda net, _: evaluate(net), sampler, storage=base, **options)[:budget]


def work(
    space: Space,
    evaluate: EvaluateAndNote,
    sampler: Any,
    *,
    budget: int,
    storage: Any,
    name: str = "search",
    directions: Sequence[str] = ("maximize",),
    alone: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_result: Callable[[Found], None] = lambda found: None,
) -> list[Found]:
    """Evaluate until the study has `budget` different nets or stop() is true; returns all of them, in trial order.

    evaluate    as in run; it may note(key, value) what it found beside the scores.
    alone       nobody else works on this study: a trial that is still open is this worker's own of an earlier life and
                is evaluated first, so that the trajectory is that of a search that was never stopped.
    on_result   hears of every net that this worker evaluated.
    Several workers may pass the budget by one net each.
    """
    nets: dict[int, Tokens] = {}
    with quiet():
        study = patient(lambda: open_study(sampler, directions, storage, name))
        if alone:
            for number in [t.number for t in study.get_trials(deepcopy=False) if not t.state.is_finished()]:
                _do(space, study, adopt(study, number), evaluate, on_result, nets, alone)
        stalled, done = 0, len(patient(lambda: found(space, study, nets)))
        while not stop():
            if not alone:
                patient(lambda: fail_stale(study, asked=False))
                done = len(patient(lambda: found(space, study, nets)))
            if done >= budget or stalled >= STALLED:
                break
            trial, others = (None, []) if alone else (take_over(study), patient(lambda: running(study)))
            if trial is None and others and done + len(others) >= budget:
                time.sleep(PAUSE_S)  # others have the last ones in hand; should they die, they are taken over
                continue
            new = _do(space, study, trial or patient(study.ask), evaluate, on_result, nets, alone)
            stalled, done = (0, done + 1) if new else (stalled + 1, done)
            if not new and others:
                time.sleep(PAUSE_S)
        return patient(lambda: found(space, study, nets))


def open_study(sampler: Any, directions: Sequence[str], storage: Any, name: str) -> Any:
    """The Optuna study, new or continued. ConfigError where its directions are others."""
    import optuna

    wanted: list[Any] = list(directions)
    study = optuna.create_study(
        sampler=sampler, directions=wanted, storage=storage, study_name=name, load_if_exists=True
    )
    found = [direction.name.lower() for direction in study.directions]
    if found != list(directions):
        raise ConfigError(f"study {name}: it has {found}; expected {list(directions)}; take another name")
    return study


def ask_for(space: Space, trial: Any) -> Tokens:
    """The trial's net: every choice that applies is asked for, in order."""
    tokens: list[int] = []
    for i, choice in enumerate(space.choices):
        if space.applies(i, tokens):
            tokens.append(choice.values.index(trial.suggest_categorical(choice.name, choice.values)))
        else:
            tokens.append(-1)
    return tuple(tokens)


def evaluated(net: Tokens, evaluate: Evaluate, objectives: int) -> tuple[Scores | None, str]:
    """The net's scores, or None and why there are none."""
    try:
        scores = evaluate(net)
    except Exception as error:  # one child's failure, whatever it is, must not end the search
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:300]
    values = scores if isinstance(scores, tuple) else (scores,)
    if len(values) != objectives:
        raise ConfigError(f"evaluate returned {len(values)} scores; the study has {objectives}")
    values = tuple(float(v) for v in values)
    if not all(math.isfinite(v) for v in values):
        return None, f"not finite: {values}"
    return values, ""


def found(space: Space, study: Any, nets: dict[int, Tokens] | None = None) -> list[Found]:
    """The different nets of a study, in the order of their trials; a trial that was given up says nothing.

    nets: what is known of trials, by number; added to.
    """
    nets = {} if nets is None else nets
    out: dict[Tokens, Found] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.params and not is_given_up(trial) and REPEAT not in trial.user_attrs:
            net = _net_of(space, trial, nets)
            if net is None:
                continue
            values = tuple(trial.values) if trial.values is not None else None
            out.setdefault(net, Found(net, values, dict(trial.user_attrs), trial.number))
    return list(out.values())


def _net_of(space: Space, trial: Any, nets: dict[int, Tokens]) -> Tokens | None:
    """The canonical net of a trial, None where it has not (all) its choices; canonical() can be slow, so each is asked
    for once.
    """
    if trial.number not in nets:
        net = net_of(space, trial.params)
        if net is None:
            return None
        nets[trial.number] = space.canonical(net)
    return nets[trial.number]


def _do(
    space: Space,
    study: Any,
    trial: Any,
    evaluate: EvaluateAndNote,
    on_result: Callable[[Found], None],
    nets: dict[int, Tokens],
    alone: bool,
) -> bool:
    """One trial; whether it was a new net. A result that comes after the trial was given up is kept as a new one."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState, create_trial

    mark(trial, SEEN, time.time())
    mark(trial, OWNER, me())
    try:
        net = space.canonical(patient(lambda: ask_for(space, trial)))
    except UpdateFinishedTrialError:  # so slow that it was given up before it had a net
        return False
    mark(trial, ASKED, True)
    # of two workers with equal nets the lower number has it: so all lower ones must have theirs
    while not alone and any(
        t.number < trial.number and ASKED not in t.user_attrs for t in patient(lambda: running(study))
    ):
        fail_stale(study, asked=False)
        time.sleep(PAUSE_S / 4)
    for other in patient(lambda: study.get_trials(deepcopy=False)):
        earlier = other.state.is_finished() or (other.state.name == "RUNNING" and other.number < trial.number)
        if not earlier or other.number == trial.number or not other.params or is_given_up(other):
            continue
        if _net_of(space, other, nets) == net:
            mark(trial, REPEAT, space.text(net))
            if other.values is None:
                mark(trial, ERROR, other.user_attrs.get(ERROR, "in the hands of another worker"))
            _finish(study, trial, other.values)
            return False
    facts: dict[str, Any] = {}

    def note(key: str, value: Any) -> None:
        facts[key] = value
        mark(trial, key, value)

    with contextlib.nullcontext() if alone else seen(trial):
        values, error = evaluated(net, lambda n: evaluate(n, note), len(study.directions))
    if values is None:
        note(ERROR, error)
    if not _finish(study, trial, values):
        late = create_trial(
            state=TrialState.FAIL if values is None else TrialState.COMPLETE,
            values=None if values is None else list(values),
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=facts,
        )
        patient(lambda: study.add_trial(late))
    on_result(Found(net, values, facts, trial.number))
    return True


def _finish(study: Any, trial: Any, values: Sequence[float] | None) -> bool:
    """Tell the study; False where somebody has given the trial up meanwhile."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    try:
        if values is None:
            patient(lambda: study.tell(trial, state=TrialState.FAIL))
        else:
            patient(lambda: study.tell(trial, list(values)))
    except (UpdateFinishedTrialError, ValueError):
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna's one line per trial is kept off stderr, as long as this lasts."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
