"""Several workers on one study: which of them holds a trial; what a dead worker held is done again.

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
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from foveate.errors import FoveateError
from foveate.files import process_start

BEAT_S, GRACE_S = 15.0, 90.0
NAMELESS_S = 30.0  # a trial that does not name its worker after so long was left between two statements
RETRIES = 2
TRIES = 7  # of a statement that the database could not do
# keys in a trial's user attributes; a trial that failed without ERROR was given up
OWNER, SEEN, ASKED, RETRY, ERROR = "worker", "seen", "asked", "retry", "error"
LOCKED_S = 60  # an SQLite file that another process writes is waited for
PAUSE_S = 0.2

T = TypeVar("T")


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


def running(study: Any) -> list[Any]:
    """The trials that somebody has in hand, or had when it died."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]


def is_given_up(trial: Any) -> bool:
    """Whether a trial ended without a result or a reason: its net is another one's."""
    return trial.state.name == "FAIL" and ERROR not in trial.user_attrs


def adopt(study: Any, number: int) -> Any:
    """A trial that its process left running, as ask() would return it."""
    from optuna.trial import Trial as OptunaTrial

    return OptunaTrial(study, study.trials[number]._trial_id)


def fail_stale(study: Any, nameless_s: float = NAMELESS_S, *, asked: bool = True) -> None:
    """Give up the trials of dead workers; asked: also those that have their net, which take_over() would save.

    nameless_s: from which age on a trial without a worker's name counts as dead; 0 when all workers have ended.
    """
    for trial in running(study):
        if (asked or ASKED not in trial.user_attrs) and _gone(trial, nameless_s):
            _give_up(study, trial)


def take_over(study: Any) -> Any:
    """The net of a dead worker as a trial of this one, at most RETRIES times a net; None where nobody has died.

    The new trial is there before the old one is given up: whoever dies in between loses nothing, and of two that take
    over the same the higher number is a repeat. It is never WAITING, which two workers can take from an SQLite file.
    """
    from optuna.trial import TrialState, create_trial

    for trial in patient(lambda: running(study)):
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
            own = [t.number for t in patient(lambda: running(study)) if t.user_attrs.get(OWNER) == me()]
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


def mark(trial: Any, key: str, value: Any) -> None:
    """Keep a fact with the trial, unless somebody has given it up."""
    from optuna.exceptions import UpdateFinishedTrialError

    with contextlib.suppress(UpdateFinishedTrialError):
        patient(lambda: trial.set_user_attr(key, value))


@contextlib.contextmanager
def seen(trial: Any) -> Iterator[None]:
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
