"""One sentence on where a record's numbers come from."""

from collections.abc import Sequence

from s18_utils.data.store import describe_share
from s18_utils.records import Record


def describe_seeds(seeds: Sequence[int]) -> str:
    """The seeds of a record, in words."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def describe_origin(record: Record) -> str:
    """One sentence on where a record's numbers come from."""
    metrics, data = record.metrics, record.data
    seeds = describe_seeds(metrics["seeds"])
    return (
        f"{describe_share(data)}, from {data['source']}, fingerprint {data['fingerprint']}: "
        f"{data['train']:,} to train on, {data['val']:,} to choose the epoch by, {data['test']:,} test images, "
        f"at {data['size']} px; "
        f"preset {record.preset}, {metrics['epochs']} epochs, {seeds}, {metrics['seconds']:.0f} s on "
        f"{metrics['device']} in {metrics['precision']}; "
        f"commit {metrics['commit']}, torch {metrics['versions']['torch']}"
        + ("; interrupted" if metrics["interrupted"] else "")
    )
