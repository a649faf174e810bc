"""What seeds say of a mean: Student's 95 % confidence interval.

    mean(x) ± t(0.975, n − 1) · sd(x) / √n    for n independent values x

With three seeds t is 4.30: an interval that leaves out 0 says something, one that does not says little.
"""

import math
import statistics
from collections.abc import Callable, Sequence

from s18_utils.records import Record

# t(0.975, n) for n = 1, 2, …; with more seeds the last serves, and makes intervals a little too wide.
T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def confidence_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two values or more, and the ends of its 95 % interval."""
    t = T_975[min(len(values) - 1, len(T_975)) - 1]
    mean, half = statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def format_interval(mean: float, low: float, high: float, form: str = "+.3f") -> str:
    """A mean and the ends of its interval; an end too close to 0 for the format still shows on which side it lies."""
    ends = [f"{end:{form}}" for end in (low, high)]
    for place, end in enumerate((low, high)):
        if end and not any(digit in ends[place] for digit in "123456789"):
            ends[place] = f"{'below' if end < 0 else 'above'} 0"
    return f"{mean:{form}} ({ends[0]} to {ends[1]})"


def gains_by_seed(before: Record, after: Record, find: Callable[[dict], float | None]) -> list[float]:
    """What `after` gains on `before` in each seed; empty unless both have the same seeds, two or more of them.

    What a seed does to both cancels, so that the gains are independent repetitions.

    Args:
        find: the score in question of a record's `test`.
    """
    first, second = ({seed: find(test) for seed, test in record.by_seed.items()} for record in (before, after))
    scores = [*first.values(), *second.values()]
    if first.keys() != second.keys() or len(first) < 2 or None in scores:
        return []
    return [second[seed] - first[seed] for seed in sorted(first)]
