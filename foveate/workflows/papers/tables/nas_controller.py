"""A controller that learns by reward against random search, at the same number of networks."""

import numpy as np

from foveate.search import SPACES, sampler
from foveate.search.space import Tokens
from foveate.search.study import run
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table

LATE, EARLY = "controller - random at the end", "controller - random at a third"
NETS, QUICK = 500, 90


def toy(seed: int, choices: int, options: int) -> tuple[np.ndarray, np.ndarray]:
    """A random score of every choice, and of every pair of neighbours: half as large."""
    random = np.random.default_rng(1_000 + seed)
    return random.normal(size=(choices, options)), 0.5 * random.normal(size=(choices - 1, options, options))


def measure(context: Context) -> list[Found]:
    """Best score reached, in standard deviations of a random net, on toy scores over the cells of NAS-Bench-201."""
    budget = NETS if context.full else QUICK
    values: dict[str, list[float]] = {EARLY: [], LATE: []}
    space = SPACES["nasbench201"]()
    for seed in range(context.seeds):
        single, pair = toy(seed, 6, 5)
        random = np.random.default_rng(seed)
        nets = random.integers(0, 5, size=(2_000, 6))
        spread = np.std([score(n, single, pair) for n in nets])

        def evaluate(net: Tokens, single: np.ndarray = single, pair: np.ndarray = pair) -> tuple[float, ...]:
            return (score(np.array(net), single, pair),)

        best = {}
        for name in ("controller", "random"):
            done = run(space, evaluate, sampler(name, space, seed), budget=budget)
            scores = [float(trial.values[0]) for trial in done if trial.values]
            best[name] = (max(scores[: budget // 3]), max(scores))
        for label, place in ((EARLY, 0), (LATE, 1)):
            values[label].append((best["controller"][place] - best["random"][place]) / float(spread))
    note = f"{budget} nets of 15,625, toy scores with interactions: not a table of trained nets"
    return [Found(LATE, tuple(values[LATE]), note=note), Found(EARLY, tuple(values[EARLY]))]


def score(net: np.ndarray, single: np.ndarray, pair: np.ndarray) -> float:
    """Of the six choices of a cell."""
    places = np.arange(len(net))
    return float(single[places, net].sum() + pair[places[:-1], net[:-1], net[1:]].sum())


SOURCE = "arXiv:1611.01578, section 4"

TABLE = Table(
    name="nas_controller",
    seed_page="002",
    paper="Neural Architecture Search with Reinforcement Learning",
    arxiv="1611.01578",
    claim="A controller that learns by reward finds better nets than random search of the same size.",
    scale="CIFAR-10, 12,800 networks on 800 GPUs; better than random by about a point",
    contrasts=(
        Contrast(LATE, Published(None, "a curve", SOURCE, "memory", "sd of nets"), effect=0.5),
        Contrast(EARLY, Published(None, "a curve", SOURCE, "memory", "sd of nets"), effect=0.5, main=False),
    ),
    study=Measurement(measure),
    minutes=20.0,
    critique="at the paper's rates a controller is random search below about 1,000 networks (docs/search.md)",
)
