"""A search's workers on a Ray cluster: many machines, one study. An extra: pip install "foveate[ray]".

Each worker is a Ray task that takes trials until the search is over; Ray starts a task again when its process or its
machine dies, and the trial that it held comes back through the study. The pictures must be at the same path everywhere,
and the study in a database that all machines reach (--storage postgresql+psycopg://...); a file will do on one machine.
"""

import time
from collections.abc import Callable
from typing import Any

from foveate.config import from_json, to_json
from foveate.errors import ConfigError, FoveateError
from foveate.workflows.search.design import Search
from foveate.workflows.search.study import serve

PAUSE_S, RESTARTS = 0.5, 100


def run_on_ray(address: str, design: Search, url: str, name: str, workers: int, finished: Callable[[], bool]) -> None:
    """Run `workers` tasks on the cluster at address ("local": one on this machine) until finished() is true.

    ConfigError where Ray is not installed; FoveateError where there is no cluster, or a task says why it can not go on.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError('--ray needs Ray: pip install "foveate[ray]"') from None
    ours = not ray.is_initialized()
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, ignore_reinit_error=True)
    except Exception as error:  # Ray's own classes, and those of its transports
        raise FoveateError(f"--ray {address}: no cluster there ({str(error).strip().splitlines()[0]})") from None
    task: Any = ray.remote(num_cpus=1, max_retries=RESTARTS)(part)
    tasks = [task.remote(to_json(design), url, name, workers) for _ in range(workers)]
    try:
        left = tasks
        while not finished() and left:
            done, left = ray.wait(left, num_returns=len(left), timeout=PAUSE_S)
            for task_done in done:
                ray.get(task_done)
            time.sleep(PAUSE_S)
    except ray.exceptions.RayError as error:
        raise FoveateError(f"a worker on Ray ended: {str(error).strip().splitlines()[-1]}") from None
    finally:
        for one_task in tasks:
            ray.cancel(one_task, force=True)
        if ours:
            ray.shutdown()


def part(design: str, url: str, name: str, workers: int) -> None:
    """What a task runs."""
    search: Search = from_json(Search, design, "search")
    serve(search, url, name, workers, lambda: False)
