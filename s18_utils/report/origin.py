"""One sentence on where a record's numbers come from."""

from collections.abc import Sequence

from s18_utils.records import Record


def describe_share(data: dict) -> str:
    """How much of which data set a record was made from, as its `data` say."""
    if data["source"] == "synthetic":
        return f"synthetic {data['title']}"
    images = data["train"] + data["val"]
    if not data["official"]:
        return f"{data['title']}, {images:,} training images"
    return f"{data['title']}, {images:,} of the {data['official']:,} official training images"


def describe_seeds(seeds: Sequence[int]) -> str:
    """The seeds of a record, in words."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def describe_scored(record: Record) -> str:
    """How many images its scores are of, and of which split."""
    validation = record.config.get("settings", {}).get("scored_on") == "validation"
    return f"{'scored on ' * validation}{record.data['test']:,} {'validation' if validation else 'test'} images"


def describe_origin(record: Record) -> str:
    """One sentence on where a record's numbers come from."""
    metrics, data = record.metrics, record.data
    seeds = describe_seeds(metrics["seeds"])
    return (
        f"{describe_share(data)}, from {data['source']}, fingerprint {data['fingerprint']}: "
        f"{data['train']:,} to train on, {data['val']:,} to choose the epoch by, {describe_scored(record)}, "
        f"at {data['size']} px; "
        f"preset {record.preset}, {metrics['epochs']} epochs, {seeds}, {metrics['seconds']:.0f} s on "
        f"{metrics['device']} in {metrics['precision']}; "
        f"commit {metrics['commit']}, torch {metrics['versions']['torch']}"
        + ("; interrupted" if metrics["interrupted"] else "")
    )
