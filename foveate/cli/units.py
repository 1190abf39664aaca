"""Numbers with units as people type them: 5ms, 1h30m, 5MB, 300M. Standard library only."""

import math
import re

from foveate.errors import ConfigError

NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+"
LATENCY_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
SIZE_BYTES = {
    "b": 1.0,
    **{f"{k}b": 1e3**i for i, k in enumerate("kmgt", 1)},
    **{f"{k}ib": 1024.0**i for i, k in enumerate("kmgt", 1)},
}
COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
TIME_S = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def latency_ms(option: str, text: str) -> float:
    """ "5ms" -> 5.0, "0.005s" -> 5.0, "800us" -> 0.8."""
    return _amount(option, text, LATENCY_MS, "a time such as 5ms or 0.005s")


def size_bytes(option: str, text: str) -> int:
    """ "5MB" -> 5,000,000; "5MiB" -> 5,242,880. Letter case does not matter."""
    return max(1, round(_amount(option, text, SIZE_BYTES, "a size such as 5MB, 5MiB or 800kB")))


def count(option: str, text: str) -> int:
    """ "300M" -> 300,000,000; "1.2G"; a plain number."""
    return max(1, round(_amount(option, text, COUNT, "a number such as 300M or 1.2G")))


def time_s(option: str, text: str) -> float:
    """ "10m" -> 600.0, "90s" -> 90.0, "1h30m" -> 5400.0."""
    parts = re.findall(rf"(?:{NUMBER})\s*[a-z]+", text.strip().lower())
    if len(parts) > 1 and "".join(parts).replace(" ", "") == text.strip().lower().replace(" ", ""):
        total = sum(_amount(option, part, TIME_S, "a time such as 10m, 90s or 1h30m", zero=True) for part in parts)
        if total > 0:  # 3h 00m is one, 0h 00m is none
            return total
    return _amount(option, text, TIME_S, "a time such as 10m, 90s or 1h30m")


def _amount(option: str, text: str, units: dict[str, float], expected: str, zero: bool = False) -> float:
    """Number times unit, positive (or zero) and finite; ConfigError with the option's name otherwise."""
    match = re.fullmatch(rf"({NUMBER})\s*([a-zµ]*)", text.strip().lower().replace("\u03bc", "µ"))
    if not match:
        raise ConfigError(f'{option} "{text}": expected {expected}')
    number, unit = float(match[1]), match[2]
    if unit not in units:
        usual = re.search(r"\d([A-Za-z]+)", expected)
        missing = f"the unit is missing, as in {match[1]}{usual[1]}" if usual else "the unit is missing"
        problem = f'unknown unit "{unit}"' if unit else missing
        raise ConfigError(f'{option} "{text}": {problem}; expected {expected}')
    value = number * units[unit]
    if not 0 <= value <= 1e18 or not (value or zero) or not math.isfinite(value):
        raise ConfigError(f'{option} "{text}": must be above zero and finite; expected {expected}')
    return value
