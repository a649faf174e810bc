"""What the fast paths gain and what things cost, measured side by side in one run: `python -m s18_utils bench`.

Absolute times differ from machine to machine and from minute to minute; a ratio of two things timed in turn does not.
"""

from collections.abc import Callable, Iterator

from s18_utils.bench.timing import Measurement
from s18_utils.errors import check_choice


def measures() -> dict[str, Callable[[], Measurement]]:
    """What can be measured, by name, in the order in which it is."""
    from s18_utils.bench import costs, epochs, loading, training

    return {
        "imports": costs.imports,
        "data": loading.data,
        "train": training.step,
        "loop": training.loop,
        "epochs": epochs.epochs,
        "peak": epochs.full_width,
        "scaling": training.scaling,
        "memory": costs.memory,
        "swap": costs.swap,
    }


def run(name: str | None = None) -> Iterator[tuple[str, Measurement]]:
    """Takes one measurement, or all of them; an InputError lists what there is."""
    known = measures()
    if name:
        check_choice("measurement", name, known)
        known = {name: known[name]}
    for title, measure in known.items():
        yield title, measure()
