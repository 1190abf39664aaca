"""Samplers in Optuna's hands: other people's parameters and trials, fixed ones, copies, threads, several objectives.

The whole of Optuna's own kit is run by scripts/peers; this is a sample of each kind that it asks for.
"""

import copy
import pickle
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from foveate.errors import ConfigError
from foveate.search import SAMPLERS, SINGLE, load_space, sampler
from foveate.search.samplers.searcher import asked_of, net_of
from foveate.search.space import UNUSED, Choice, Space
from foveate.search.study import found, run

SPACE = Space(
    [Choice("a", (1, 2, 3)), Choice("b", ("x", "y"), when=(("a", (2, 3)),)), Choice("c", (False, True))], name="small"
)
FOREIGN = {"lr": FloatDistribution(1e-4, 1.0, log=True), "depth": IntDistribution(1, 9, step=2)}
FOREIGN |= {"kind": CategoricalDistribution(("p", "q"))}


@pytest.fixture(params=SAMPLERS)
def name(request):
    return request.param


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


def ask(trial):
    values = {"a": trial.suggest_categorical("a", (1, 2, 3))}
    if values["a"] > 1:
        values["b"] = trial.suggest_categorical("b", ("x", "y"))
    return {**values, "c": trial.suggest_categorical("c", (False, True))}


def score(trial):
    values = ask(trial)
    return values["a"] + 2 * (values.get("b") == "y") + values["c"]


def study_of(name, **options):
    return optuna.create_study(sampler=sampler(name, SPACE, 0), direction="maximize", **options)


def test_distributions_of_every_kind_are_sampled(name):
    study = study_of(name)
    for distribution in (*FOREIGN.values(), FloatDistribution(-1, 1, step=0.25), IntDistribution(1, 99, log=True)):
        trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
        value = study.sampler.sample_independent(study, trial, "z", distribution)
        assert distribution._contains(distribution.to_internal_repr(value))
        assert not isinstance(value, np.generic)


def test_relative_spaces_of_others_are_answered_whole(name):
    study = study_of(name)
    for number in range(4):
        trial = study.ask(FOREIGN)
        study.tell(trial, trial.params["lr"])
        frozen = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
        found = study.sampler.sample_relative(study, frozen, FOREIGN)
        assert set(found) == set(FOREIGN), number
        assert all(FOREIGN[n]._contains(FOREIGN[n].to_internal_repr(v)) for n, v in found.items())


def test_a_space_within_larger_objectives_is_searched(name):
    study = study_of(name)
    study.optimize(lambda t: score(t) + t.suggest_float("noise", 0, 0.1), n_trials=12)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    assert all("noise" in t.params for t in study.trials)


def test_trials_of_others_do_not_stop_or_mislead_it(name):
    study = study_of(name)
    distributions = {"a": CategoricalDistribution((1, 2, 3))}
    strange = [
        optuna.create_trial(value=9.0, params={"lr": 0.1}, distributions={"lr": FOREIGN["lr"]}),
        optuna.create_trial(value=9.0, params={"a": 2}, distributions=distributions),  # not all choices
        optuna.create_trial(value=9.0, params={}, distributions={}),
        optuna.create_trial(state=TrialState.PRUNED, params={"a": 1}, distributions=distributions),
        optuna.create_trial(state=TrialState.FAIL, params={}, distributions={}),
    ]
    for trial in strange:
        study.add_trial(trial)
    study.optimize(score, n_trials=9)
    assert len([t for t in study.trials if t.state == TrialState.COMPLETE]) == 3 + 9
    assert all(net_of(SPACE, study.trials[i].params) is None for i in (0, 1, 2))
    assert len(found(SPACE, study)) == len({net_of(SPACE, t.params) for t in study.trials} - {None})


def test_values_that_the_space_does_not_know_are_another_net(name):
    study = study_of(name)
    other = {"a": CategoricalDistribution((7, 8)), "c": CategoricalDistribution((False, True))}
    study.add_trial(optuna.create_trial(value=5.0, params={"a": 7, "c": True}, distributions=other))
    assert found(SPACE, study) == [] and asked_of(SPACE, {"a": 7}) is None
    trial = study.ask()
    assert trial.suggest_categorical("c", (False, True)) in (False, True)


def test_fixed_parameters_are_kept_and_the_rest_of_the_net_fits(name):
    study = study_of(name)
    for fixed in ({"a": 1}, {"a": 3, "b": "y"}, {"c": True}, {"a": 2, "unknown": 4}):
        study.enqueue_trial(fixed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            study.optimize(score, n_trials=1)
        params = study.trials[-1].params
        assert all(params[k] == v for k, v in fixed.items() if k != "unknown")
        assert net_of(SPACE, params) is not None


def test_a_partly_fixed_sampler_keeps_its_word(name):
    study = study_of(name)
    study.sampler = optuna.samplers.PartialFixedSampler({"a": 3, "c": False}, study.sampler)
    study.optimize(score, n_trials=6)
    assert all(t.params["a"] == 3 and t.params["c"] is False and t.params["b"] in "xy" for t in study.trials)


def test_a_queue_that_waits_does_not_stop_learning(name):
    study = study_of(name)
    for _ in range(3):
        study.enqueue_trial({"a": 1})
    study.ask()  # open for good
    study.optimize(score, n_trials=10)
    assert len([t for t in study.trials if t.state == TrialState.COMPLETE]) == 10


@pytest.mark.parametrize("name", ["evolution", "local", "predictor", "controller"])
def test_trials_that_were_skipped_are_read_when_they_have_finished(name):
    study = study_of(name)
    study.sampler.infer_relative_search_space(study, None)
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"a": 1}}))
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    study.sampler.sample_relative(study, trial, study.sampler.infer_relative_search_space(study, trial))
    assert study.sampler._late == [0] and study.sampler._history.nets == []
    study.optimize(score, n_trials=1)  # the one that waited
    again = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    study.sampler.sample_relative(study, again, study.sampler.infer_relative_search_space(study, again))
    assert study.sampler._late == [] and len(study.sampler._history.nets) == 1


@pytest.mark.parametrize("way", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy])
def test_a_copy_goes_on_as_the_original(name, way):
    first, second = study_of(name), study_of(name)
    first.optimize(score, n_trials=7)
    second.optimize(score, n_trials=4)
    second.sampler = way(second.sampler)
    second.optimize(score, n_trials=3)
    assert [t.params for t in first.trials] == [t.params for t in second.trials]


@pytest.mark.parametrize("space", ["mnasnet", "nasbench201", "nas(layers=3)", "resnet"])
def test_spaces_travel(space):
    made = pickle.loads(pickle.dumps(load_space(space)))
    net = made.sample(np.random.default_rng(0))
    assert made.canonical(net) == made.canonical(made.canonical(net))


def test_one_sampler_serves_two_studies_one_after_the_other(name):
    alone, shared = study_of(name), sampler(name, SPACE, 0)
    alone.optimize(score, n_trials=6)
    other = optuna.create_study(sampler=shared, direction="minimize")
    other.optimize(score, n_trials=6)
    again = optuna.create_study(sampler=shared, direction="maximize")  # both have the number 0 in their storage
    again.optimize(score, n_trials=6)
    assert [t.params for t in again.trials] == [t.params for t in alone.trials]


def test_several_threads_share_a_study(name):
    study = study_of(name)
    study.optimize(score, n_trials=8, n_jobs=2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 8


def test_random_numbers_follow_from_seed_and_number(name):
    first, second = study_of(name), study_of(name)
    first.sampler.reseed_rng()
    first.optimize(score, n_trials=6)
    second.optimize(score, n_trials=6)
    assert [t.params for t in first.trials] == [t.params for t in second.trials]


def test_several_objectives_are_taken_or_refused_in_a_line(name):
    study = optuna.create_study(sampler=sampler(name, SPACE, 0), directions=["maximize", "minimize"])
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    calls = (
        lambda: study.sampler.sample_independent(study, trial, "z", FOREIGN["lr"]),
        lambda: study.sampler.sample_relative(study, trial, study.sampler.infer_relative_search_space(study, trial)),
    )
    for call in calls:
        if name in SINGLE:
            with pytest.raises(ConfigError, match="one objective, the study has 2; take predictor") as caught:
                call()
            assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
        else:
            call()


def test_values_that_are_not_finite_teach_nothing(name):
    study = study_of(name)
    values = iter([1.0, float("inf"), float("nan"), float("-inf"), *range(12)])

    def objective(trial):
        ask(trial)
        return next(values)

    study.optimize(objective, n_trials=12, catch=())
    assert len(study.trials) == 12


def test_objectives_that_ask_for_nothing_pass(name):
    study = study_of(name)
    study.optimize(lambda trial: 1.0, n_trials=3)
    assert [t.params for t in study.trials] == [{}] * 3
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    assert study.sampler.sample_relative(study, trial, {}) == {}


def test_equal_values_of_two_types_are_told_apart():
    space = Space([Choice("n", (0, 1)), Choice("m", (1, True, 2.0))])
    assert asked_of(space, {"n": False, "m": True}) == (0, 1)
    assert asked_of(space, {"n": 1.0, "m": 1}) == (1, 0) and asked_of(space, {"m": 2}) == (UNUSED, 2)


def test_a_study_with_foreign_trials_is_searched_on(tmp_path):
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0, params={"lr": 0.1}, distributions={"lr": FOREIGN["lr"]}))
    results = run(SPACE, lambda net: float(net[0]), sampler("evolution", SPACE, 0), budget=4, storage=storage)
    assert len(results) == 4 and len({r.net for r in results}) == 4
