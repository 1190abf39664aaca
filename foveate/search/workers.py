"""Several workers on one study: each takes trials until the budget is spent; what a dead worker held is done again.

The study's storage is all that they share: an SQLite file on one machine, PostgreSQL between machines. A trial names
its worker (host, process, start of the process) and when that was last seen, which it says every BEAT_S seconds. A
trial whose process is gone, or that was not seen for GRACE_S (machines whose clocks differ by more can not work
together), is given up by whoever finds it, who takes its net over, at most RETRIES times. A worker that was only slow
keeps its result: it becomes a trial of its own.
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from foveate.errors import FoveateError
from foveate.files import process_start
from foveate.search.samplers.searcher import tokens_of
from foveate.search.space import Space, Tokens
from foveate.search.study import ERROR, REPEAT, STALLED, Scores, adopt, ask_for, evaluated, open_study, quiet

BEAT_S, GRACE_S = 15.0, 90.0
NAMELESS_S = 30.0  # a trial that does not name its worker after so long was left between two statements
RETRIES = 2
TRIES = 7  # of a statement that the database could not do
# keys in a trial's user attributes; a trial that failed without ERROR was given up
OWNER, SEEN, ASKED, RETRY = "worker", "seen", "asked", "retry"
LOCKED_S = 60  # an SQLite file that another process writes is waited for
PAUSE_S = 0.2

T = TypeVar("T")
Note = Callable[[str, Any], None]  # key, value: kept with the trial
EvaluateAndNote = Callable[[Tokens, Note], float | Scores]


class Found(NamedTuple):
    """One evaluated net of a study with what was noted of it; values None: it failed, error says why."""

    net: Tokens
    values: Scores | None
    facts: Mapping[str, Any]
    number: int


@contextlib.contextmanager
def shared_storage(url: str) -> Iterator[Any]:
    """Optuna's storage for workers, closed at the end. FoveateError, in one line, for a database that does not open."""
    import optuna

    arguments = {"connect_args": {"timeout": LOCKED_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(5):
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
            break
        except Exception as error:  # sqlalchemy's, sqlite's, the driver's, a missing driver
            if attempt == 4 or isinstance(error, ImportError):
                raise FoveateError(f"{url.split('@')[-1]}: the study can not be opened ({_line(error)})") from None
            time.sleep(random.uniform(0.1, 0.5) * 2**attempt)  # many starters at once make the tables together
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


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

    evaluate    as in study.run; it may note(key, value) what it found beside the scores.
    alone       nobody else works on this study: a trial that is still open is this worker's own of an earlier life and
                is evaluated first, so that the trajectory is that of a search that was never stopped.
    on_result   hears of every net that this worker evaluated.
    Several workers may pass the budget by one net each.
    """
    with quiet():
        study = patient(lambda: open_study(sampler, directions, storage, name))
        if alone:
            for number in [t.number for t in study.get_trials(deepcopy=False) if not t.state.is_finished()]:
                _do(space, study, adopt(study, number), evaluate, on_result)
        stalled = 0
        while not stop():
            patient(lambda: fail_stale(study, asked=False))
            done = patient(lambda: found(space, study))
            if len(done) >= budget or stalled >= STALLED:
                break
            trial, running = take_over(study), patient(lambda: _running(study))
            if trial is None and len(done) + len(running) >= budget and not alone:
                time.sleep(PAUSE_S)  # others have the last ones in hand; should they die, they are taken over
                continue
            new = _do(space, study, trial or patient(study.ask), evaluate, on_result)
            stalled = 0 if new else stalled + 1
            if not new and running:
                time.sleep(PAUSE_S)
        return patient(lambda: found(space, study))


def patient(call: Callable[[], T]) -> T:
    """call(), again after a while where the database could not do it: it was locked, or two writers met."""
    from optuna.exceptions import StorageInternalError

    for attempt in range(TRIES):
        try:
            return call()
        except StorageInternalError as error:
            if attempt == TRIES - 1:
                raise FoveateError(f"the study's database does not work ({_line(error.__cause__ or error)})") from error
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)
    raise AssertionError


def found(space: Space, study: Any) -> list[Found]:
    """The different nets of a study, in the order of their trials; a trial that was given up says nothing."""
    out: dict[Tokens, Found] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.params and not _given_up(trial) and REPEAT not in trial.user_attrs:
            net = space.canonical(tokens_of(space, trial.params))
            values = tuple(trial.values) if trial.values is not None else None
            out.setdefault(net, Found(net, values, dict(trial.user_attrs), trial.number))
    return list(out.values())


def _running(study: Any) -> list[Any]:
    return [t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]


def _given_up(trial: Any) -> bool:
    return trial.state.name == "FAIL" and ERROR not in trial.user_attrs


def fail_stale(study: Any, nameless_s: float = NAMELESS_S, *, asked: bool = True) -> None:
    """Give up the trials of dead workers; asked: also those that have their net, which take_over() would save.

    nameless_s: from which age on a trial without a worker's name counts as dead; 0 when all workers have ended.
    """
    for trial in _running(study):
        if (asked or ASKED not in trial.user_attrs) and _gone(trial, nameless_s):
            _give_up(study, trial)


def take_over(study: Any) -> Any:
    """The net of a dead worker as a trial of this one, at most RETRIES times a net; None where nobody has died.

    The new trial is there before the old one is given up: whoever dies in between loses nothing, and of two that take
    over the same the higher number is a repeat. It is never WAITING, which two workers can take from an SQLite file.
    """
    from optuna.trial import TrialState, create_trial

    for trial in patient(lambda: _running(study)):
        if ASKED not in trial.user_attrs or not _gone(trial, NAMELESS_S):
            continue
        deaths = int(trial.user_attrs.get(RETRY, 0)) + 1
        mine = {OWNER: me(), SEEN: time.time(), ASKED: True, RETRY: deaths}
        dead = deaths > RETRIES
        heir = create_trial(
            state=TrialState.FAIL if dead else TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={ERROR: f"its worker died {deaths} times"} if dead else mine,
        )
        patient(partial(study.add_trial, heir))
        _give_up(study, trial)
        if not dead:
            own = [t.number for t in patient(lambda: _running(study)) if t.user_attrs.get(OWNER) == me()]
            return patient(partial(adopt, study, max(own)))
    return None


def _give_up(study: Any, trial: Any) -> None:
    from optuna.trial import TrialState

    with contextlib.suppress(Exception):  # another worker was first, or has the database: that one goes on with it
        study.tell(trial.number, state=TrialState.FAIL)


def _gone(trial: Any, nameless_s: float) -> bool:
    """Whether the worker of a running trial is dead: its process does not run any more, or was not seen for long."""
    owner, started = trial.user_attrs.get(OWNER), trial.datetime_start
    if owner is None:
        return started is not None and (datetime.now() - started).total_seconds() > nameless_s
    host, number, born = owner.split("|")
    if host == socket.gethostname():
        return str(process_start(int(number))) != born
    return time.time() - float(trial.user_attrs.get(SEEN, 0.0)) > GRACE_S


def me() -> str:
    """This process, by a name that no later one with the same number has."""
    return f"{socket.gethostname()}|{os.getpid()}|{process_start(os.getpid())}"


def _do(space: Space, study: Any, trial: Any, evaluate: EvaluateAndNote, on_result: Callable[[Found], None]) -> bool:
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
    while any(t.number < trial.number and ASKED not in t.user_attrs for t in patient(lambda: _running(study))):
        fail_stale(study, asked=False)
        time.sleep(PAUSE_S / 4)
    for other in patient(lambda: study.get_trials(deepcopy=False)):
        same = other.number != trial.number and other.params and not _given_up(other)
        if not same or space.canonical(tokens_of(space, other.params)) != net:
            continue
        if other.state.is_finished() or (other.state.name == "RUNNING" and other.number < trial.number):
            mark(trial, REPEAT, space.text(net))
            if other.values is None:
                mark(trial, ERROR, other.user_attrs.get(ERROR, "in the hands of another worker"))
            _finish(study, trial, other.values)
            return False
    facts: dict[str, Any] = {}

    def note(key: str, value: Any) -> None:
        facts[key] = value
        mark(trial, key, value)

    with _seen(trial):
        result = evaluated(net, lambda n: evaluate(n, note), len(study.directions))
    if result.values is None:
        note(ERROR, result.error)
    if not _finish(study, trial, result.values):
        late = create_trial(
            state=TrialState.FAIL if result.values is None else TrialState.COMPLETE,
            values=None if result.values is None else list(result.values),
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=facts,
        )
        patient(lambda: study.add_trial(late))
    on_result(Found(net, result.values, facts, trial.number))
    return True


def mark(trial: Any, key: str, value: Any) -> None:
    """Keep a fact with the trial, unless somebody has given it up."""
    from optuna.exceptions import UpdateFinishedTrialError

    with contextlib.suppress(UpdateFinishedTrialError):
        patient(lambda: trial.set_user_attr(key, value))


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
def _seen(trial: Any) -> Iterator[None]:
    """The trial says every BEAT_S seconds that it is alive, while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with contextlib.suppress(Exception):  # a locked database, or given up: the next beat or the end will tell
                trial.set_user_attr(SEEN, time.time())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
