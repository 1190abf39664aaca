"""Several workers on one study: nothing is lost, nothing is done twice, whoever dies."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import forked
import optuna
import pytest
from optuna.trial import TrialState

from foveate.errors import FoveateError
from foveate.files import process_start
from foveate.search import sampler, workers
from foveate.search.space import Choice, Space
from foveate.search.study import ask_for, found, open_study, quiet, work
from foveate.search.workers import ERROR, fail_stale, patient, shared_storage, take_over


def space():
    """216 nets, of which three in a row are equal."""
    choices = [Choice("a", tuple(range(6))), Choice("b", tuple(range(6))), Choice("c", tuple(range(6)))]
    return Space(choices, canonical=lambda net: (net[0], net[1], net[2] // 3 * 3))


def score(net):
    return net[0] + 0.1 * net[1] + 0.01 * net[2]


def net_of(trial):
    return space().canonical((trial.params["a"], trial.params["b"], trial.params["c"]))


def start(url, budget, *, kind="evolution(population=12,tournament=3)", pause=0.05, alone=False, dies_in=0):
    return forked.start(serve, url, budget, kind, pause, alone, dies_in)


def serve(url, budget, kind, pause, alone, dies_in):
    """What a worker runs. dies_in: number of the evaluation, from 1, in which it kills itself; 0: none."""
    number = itertools.count(1)

    def slow(net, note):
        note("process", os.getpid())
        time.sleep(pause)
        if next(number) == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(net)

    made = space()
    with shared_storage(url) as storage:
        work(made, slow, sampler(kind, made, 0), budget=budget, storage=storage, alone=alone)


def trials(url):
    with quiet(), shared_storage(url) as storage:
        return patient(lambda: open_study(sampler("random", space(), 0), ["maximize"], storage, "search").trials)


@pytest.fixture(scope="module")
def postgres():
    """The URL of a PostgreSQL of its own: an ordinary user's, in a temporary folder, on a loopback port."""
    programs = [path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")) if (path / "initdb").exists()]
    if not programs:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no driver here: pip install 'psycopg[binary]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        ordinary = {"user": "nobody", "cwd": "/"} if os.getuid() == 0 else {}
        if ordinary:  # PostgreSQL does not run as root
            shutil.chown(folder, "nobody")

        def call(*command):
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **ordinary)
            assert done.returncode == 0, done.stderr

        data = ("-D", f"{folder}/data")
        call(
            programs[-1] / "initdb",
            *data,
            "-U",
            "foveate",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F"
        control = programs[-1] / "pg_ctl"
        # its stderr would stay open in the server, and this call wait for it: the log takes it
        subprocess.run([control, *data, "-w", "-l", f"{folder}/log", "-o", options, "start"], check=True, **ordinary,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        yield f"postgresql+psycopg://foveate@127.0.0.1:{port}/postgres"
        call(control, *data, "-w", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request, tmp_path):
    """The URL of a database without studies."""
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    with shared_storage(url) as storage:
        for name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
    return url


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("budget", "kills"), [(24, 5), pytest.param(60, 20, marks=pytest.mark.thorough)])
def test_three_workers_of_which_some_are_killed_lose_and_repeat_nothing(shared, budget, kills):
    url = shared
    workers, rng = [start(url, budget) for _ in range(3)], random.Random(0)
    best, killed = -1.0, 0
    while killed < kills:
        time.sleep(rng.uniform(0.1, 0.6))  # at any moment
        number = rng.randrange(3)
        workers[number].kill()
        workers[number].join()
        killed += workers[number].exitcode == -signal.SIGKILL
        workers[number] = start(url, budget)
        values = [t.value for t in trials(url) if t.value is not None]
        assert max(values, default=-1.0) >= best  # a value that was there stays
        best = max(values, default=-1.0)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with quiet(), shared_storage(url) as storage:
        study = open_study(sampler("random", space(), 0), ["maximize"], storage, "search")
        fail_stale(study, 0.0)  # as at the end of a search: a worker may have died between two statements
        done, nets = study.trials, found(space(), study)
    assert not [t for t in done if t.state.name == "RUNNING"]  # no ghosts
    assert [t.number for t in done] == list(range(len(done)))
    evaluated = [t for t in done if t.state.name == "COMPLETE" and "repeat of" not in t.user_attrs]
    assert not [t for t in evaluated if "asked" not in t.user_attrs]  # no result of a trial that two had in hand
    names = [net_of(t) for t in evaluated]
    assert len(names) == len(set(names)), [t for t in evaluated if names.count(net_of(t)) > 1]  # no net twice
    assert budget <= len(nets) <= budget + 3


def test_one_worker_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    whole, parts = f"sqlite:///{tmp_path}/whole.db", f"sqlite:///{tmp_path}/parts.db"
    first, budget = start(whole, 25, pause=0.0, alone=True), 25
    with shared_storage(parts):
        pass
    for dies_in in (4, 12, 7):  # before the population of 12 is whole, and after
        worker = start(parts, budget, pause=0.0, alone=True, dies_in=dies_in)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
    assert 16 <= len([t for t in trials(parts) if t.state.is_finished()]) < budget
    worker = start(parts, budget, pause=0.0, alone=True)
    worker.join(), first.join()
    assert first.exitcode == worker.exitcode == 0
    one, other = ([(t.params, t.value) for t in trials(url)] for url in (whole, parts))
    assert one == other and len(one) >= 25


def dead_after(trial):
    """The trial as a worker leaves it that died while it evaluated."""
    trial.set_user_attr("worker", f"{os.uname().nodename}|{2**22 + 7}|1")  # a process that is not there
    trial.set_user_attr("asked", True)


def test_a_net_whose_workers_always_die_is_given_up_with_the_reason(tmp_path):
    made, ones = space(), {"a": 1, "b": 1, "c": 1}
    with quiet(), shared_storage(f"sqlite:///{tmp_path}/study.db") as storage:
        study = open_study(sampler("random", made, 0), ["maximize"], storage, "search")
        study.enqueue_trial(ones)
        trial = study.ask()
        for _ in range(3):
            assert {c.name: trial.suggest_categorical(c.name, c.values) for c in made.choices} == ones
            dead_after(trial)
            trial = take_over(study)
        nets = found(made, study)
    assert trial is None
    assert [(n.net, n.values) for n in nets] == [((1, 1, 0), None)]
    assert nets[0].facts[ERROR] == "its worker died 3 times"


def test_of_two_workers_that_take_over_the_same_net_one_evaluates_it(tmp_path, monkeypatch):
    made, evaluated = space(), []

    def counted(net, note):
        evaluated.append(net)
        return score(net)

    with shared_storage(f"sqlite:///{tmp_path}/study.db") as storage:
        with quiet():
            study = open_study(sampler("random", made, 0), ["maximize"], storage, "search")
            trial = study.ask()
            net = made.canonical(ask_for(made, trial))
            dead_after(trial)
            other = open_study(sampler("random", made, 0), ["maximize"], storage, "search")
            add, heirs = study.add_trial, []

            def in_between(new):  # another worker sees the dead one too, before this one has it
                monkeypatch.setattr(workers, "me", lambda: f"{os.uname().nodename}|1|{process_start(1)}")
                heirs.append(take_over(other))
                monkeypatch.undo()
                add(new)

            study.add_trial = in_between
            heirs.append(take_over(study))
        assert [heir.number for heir in heirs] == [1, 2]
        nets = work(made, counted, sampler("random", made, 1), budget=1, storage=storage, alone=True)
    assert evaluated == [net] == [n.net for n in nets]


def test_a_slow_worker_that_was_given_up_keeps_its_result(tmp_path):
    made = space()

    def slow(net, note):
        study = open_study(sampler("random", made, 0), ["maximize"], storage, "search")
        study.tell(next(t.number for t in study.trials if not t.state.is_finished()), state=TrialState.FAIL)
        note("late", True)  # another worker has taken this one for dead
        return score(net)

    with shared_storage(f"sqlite:///{tmp_path}/study.db") as storage:
        nets = work(made, slow, sampler("random", made, 0), budget=1, storage=storage)
    assert [(n.values, n.facts["late"]) for n in nets] == [((score(nets[0].net),), True)]


def test_a_database_that_can_not_be_opened_is_one_line(tmp_path):
    with (
        pytest.raises(FoveateError, match="can not be opened"),
        shared_storage(f"sqlite:///{tmp_path}/no/folder/study.db"),
    ):
        pass
