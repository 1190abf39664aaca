"""How numbers with units look in every table, report and line of the command line. Standard library only."""

from collections.abc import Sequence

SIZES = ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"))
COUNTS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


def percent(fraction: float, digits: int = 1) -> str:
    """0.931 -> "93.1". What is not quite all is never shown as 100: 0.99999 -> "99.99"."""
    if 0 < fraction < 1 and 100 * fraction >= 100 - 0.5 / 10**digits:
        return f"{100 * min(fraction, 1 - 10 ** -(digits + 3)):.{digits + 1}f}"
    return f"{100 * fraction:.{digits}f}"


def share(fraction: float, interval: Sequence[float], n: int) -> str:
    """An accuracy with its origin: "93.1 % (90.1-95.3, n = 372)"."""
    low, high = interval
    return f"{percent(fraction)} % ({percent(low)}-{percent(high)}, n = {n:,})"


def points(difference: float, digits: int = 1) -> str:
    """A difference of two shares, signed: 0.0123 -> "+1.2"."""
    return f"{100 * difference + 0.0:+.{digits}f}"


def milliseconds(value: float, exact: bool = False) -> str:
    """4.31 -> "4.3 ms", 0.183 -> "0.18 ms". exact: a limit as it was given, 1.25 -> "1.25 ms"."""
    digits = next((d for d, least in enumerate((99.95, 0.995, 0.0995)) if value >= least), 3)
    return f"{value:g} ms" if exact else f"{value:.{digits}f} ms"


def size(value: float, exact: bool = False) -> str:
    """13_600_000 -> "13.6 MB" (decimal, as disks are sold). exact: a limit as it was given, 5_000_000 -> "5 MB"."""
    return _scaled(value, SIZES, " B", exact)


def count(value: float, exact: bool = False) -> str:
    """Parameters and multiply-adds: 385_000_000 -> "385 M". exact: a limit as it was given."""
    return _scaled(value, COUNTS, "", exact)


def duration(seconds: float) -> str:
    """372 -> "6m 12s", 5.2 -> "5s", 5000 -> "1h 23m"."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def plural(number: int, noun: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...], smallest: str, exact: bool) -> str:
    for factor, unit in steps:
        if value >= 0.9995 * factor:
            number = value / factor
            digits = 2 if number < 9.995 and unit in (" G", " T") else 1 if number < 99.95 else 0
            return f"{number:g}{unit}" if exact else f"{number:.{digits}f}{unit}"
    return f"{value:.0f}{smallest}"
