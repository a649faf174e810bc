"""How time is taken here, and what a measurement is."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from s18_utils.table import Table

ROUNDS = 3


@dataclass(frozen=True)
class Measurement:
    """Rows of numbers by name, alike in their names, and a sentence on how they were taken."""

    title: str
    rows: list[dict[str, str | float]]

    def table(self) -> Table:
        return Table(list(self.rows[0]), [[show(value) for value in row.values()] for row in self.rows])


def show(value: str | float) -> str:
    """A number with three digits, or as many as it has before the point."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def synchronise() -> None:
    """Waits until all that was asked of the GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def per_second(work: Callable[[], object], times: int) -> float:
    """How often a second `work` gets done, over so many times."""

    def all_of_it() -> None:
        for _ in range(times):
            work()

    return times / seconds_of(all_of_it)


def in_turn(rates: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Takes every rate `ROUNDS` times in turn, after a round that does not count, so that drift hits all alike."""
    results = {name: [] for name in rates}
    for count in range(ROUNDS + 1):
        for name, rate in rates.items():
            value = rate()
            if count:
                results[name].append(value)
    return results


def ratios(title: str, unit: str, rates: dict[str, Callable[[], float]]) -> Measurement:
    """Median rates taken in turn, and the median over rounds of each rate's ratio to the first."""
    results = in_turn(rates)
    base = next(iter(results.values()))
    rows = []
    for name, values in results.items():
        ratio = statistics.median(value / first for value, first in zip(values, base, strict=True))
        rows.append({"way": name, unit: statistics.median(values), "ratio": ratio})
    return Measurement(title, rows)
