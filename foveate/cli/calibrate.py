"""What foveate profile --calibrate and --table do: measure the table of operators of this device, predict from one."""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.errors import ConfigError
from foveate.report.units import milliseconds, plural
from foveate.zoo.family import Config

if TYPE_CHECKING:
    from foveate.cost.calibrate import Exported
    from foveate.cost.predict import Table


def calibrated(
    file: str | None, threads: int | None, told: Callable[[str], None] | None = None
) -> tuple["Table", Path]:
    """Measure the table of this device and save it; minutes. file: where; None: the cache folder."""
    import onnxruntime

    from foveate.cost.calibrate import cases
    from foveate.cost.latency import device_name
    from foveate.cost.predict import make_table, table_path
    from foveate.cost.specimens import specimens
    from foveate.files import write_json

    told = told or _say
    count = threads or 1
    path = Path(file) if file is not None else table_path("onnxruntime", count)
    networks: list[Exported] = []
    todo = specimens()
    for i, (config, resolution) in enumerate(todo):
        if i % 10 == 0:
            told(f"exporting networks to measure: {i} of {len(todo)}")
        networks.append(exported(config, resolution))
    found = cases(networks, count, told=lambda i, n: told(f"measuring {len(todo)} networks: round {i + 1} of {n}"))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    runtime = f"onnxruntime {onnxruntime.__version__}"
    table = make_table(found, runtime=runtime, threads=count, device=device_name(), created=created)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, table)
    return table, path


def exported(config: Config, resolution: int) -> "Exported":
    """A config with first weights as it would be deployed, and noise to feed it."""
    import numpy as np
    import torch

    from foveate.cost.calibrate import Exported
    from foveate.cost.operators import operators
    from foveate.data.preprocess import Preprocess, sized
    from foveate.deploy.export import export_for_timing
    from foveate.zoo import build

    preprocess = Preprocess(resolution=resolution, resize=round(resolution * 8 / 7))
    before = torch.random.get_rng_state()
    torch.manual_seed(0)
    onnx = export_for_timing(build(config).eval(), preprocess)
    torch.random.set_rng_state(before)
    side = sized(preprocess)
    noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return Exported(onnx, {"image": noise}, operators(config, resolution), resolution**2)


def table_for(file: str | None, threads: int | None) -> "Table | None":
    """The table of --table FILE, or the one in the cache folder; None where none was measured yet."""
    from foveate.cost.predict import load_table, table_path

    if file is not None:
        return load_table(file)
    path = table_path("onnxruntime", threads or 1)
    if not path.is_file():
        return None
    try:
        return load_table(path)
    except ConfigError:
        return None  # of another version; --calibrate makes a new one


def prediction(network: Any, table: "Table", resolution: int) -> dict[str, Any]:
    """What --json says of a prediction. not_measured: kinds of operators that the table has nothing like."""
    from foveate.cost.operators import operators

    found = operators(network, resolution)
    return {
        "latency_ms": table.latency_us(found, resolution**2) / 1e3,
        "operators": len(table.rows),
        "runtime": table.runtime,
        "threads": table.threads,
        "device": table.device,
        "not_measured": table.strangers(found),
    }


def prediction_line(predicted: Mapping[str, Any]) -> str:
    """The line of the text output."""
    threads = plural(predicted["threads"], "thread")
    origin = f"table of {predicted['operators']:,} operators, {predicted['runtime']}, {threads}"
    unknown = ", ".join(predicted["not_measured"])
    guess = f"; nothing measured like: {unknown}" if unknown else ""
    return f"predicted {milliseconds(predicted['latency_ms'])} ({origin}{guess})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
