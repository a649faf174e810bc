"""The on-disk store: a data set decoded once, as uint8 tensors in one safetensors file that is mapped into memory."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s18_utils.data.sources import make_writable
from s18_utils.errors import InputError

Tensors = dict[str, Tensor]


def open_store(path: Path, stamp: str, build: Callable[[], Tensors]) -> tuple[Tensors, str]:
    """The tensors kept at `path` and their fingerprint; built first where they are missing, stale or damaged.

    Any number of processes may do this at once: each that finds no good store builds one under a name of its own and
    moves it into place in one step, so that nobody ever reads half a file.

    Args:
        path: where the store is, or will be.
        stamp: describes what goes in; a store with another stamp is stale.
        build: makes the tensors.

    Raises:
        InputError: the folder can't be written to, or the disk is full.
    """
    if (kept := read_store(path, stamp)) is not None:
        return kept
    make_writable(path.parent)
    tensors = {name: tensor.contiguous() for name, tensor in build().items()}
    metadata = {"stamp": stamp, "fingerprint": fingerprint(tensors)}
    handle, partial = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        save_file(tensors, partial, metadata)
        os.chmod(partial, 0o644)  # temporary files are private, a data directory may be shared
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        # Windows does not let go of a store that another process has open; theirs is as good as ours.
        if (kept := read_store(path, stamp)) is not None:
            return kept
        raise InputError(f"can't write {path} ({error}): free some space, or set S18_DATA to another folder") from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return read_store(path, stamp) or (tensors, metadata["fingerprint"])


def read_store(path: Path, stamp: str) -> tuple[Tensors, str] | None:
    """The tensors and fingerprint of the store at `path`, or None if it is missing, stale or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("stamp") != stamp:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError):
        return None
    intact = metadata.get("fingerprint") == fingerprint(tensors)
    return (tensors, metadata["fingerprint"]) if intact else None


def fingerprint(tensors: Tensors) -> str:
    """The first 16 hex digits of a SHA-256 over names, shapes and contents."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy())
    return digest.hexdigest()[:16]


def stamp_files(files: list[Path], **details) -> str:
    """A stamp of files that changes when one is added, removed, renamed, resized or written to, or a detail differs."""
    digest = hashlib.sha256(repr(sorted(details.items())).encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
