"""onnxruntime-web, which runs ONNX files in a browser: fetched from npm when the site is built."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from platformdirs import user_cache_dir

from s18_utils.errors import InputError

PACKAGE = "onnxruntime-web@1.22.0"
# The loader of the build that needs WebAssembly alone, and the two files that it asks for.
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def copy_runtime(folder: Path) -> None:
    """Copies the runtime's files into a folder, from the user's cache, or from npm if they are not there yet.

    Raises:
        InputError: npm is missing or can't fetch the package.
    """
    kept = Path(user_cache_dir("s18")) / PACKAGE
    if not all((kept / name).is_file() for name in FILES):
        fetch(kept)
    for name in FILES:
        shutil.copy(kept / name, folder)


def fetch(kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("the playground needs npm to fetch onnxruntime-web: install Node.js and build the site again")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        partial = Path(name)
        done = subprocess.run([npm, "pack", PACKAGE], cwd=partial, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InputError(f"npm can't fetch {PACKAGE} ({last}): connect to the network and build the site again")
        with tarfile.open(next(partial.glob("*.tgz"))) as archive:
            for file in FILES:
                source = archive.extractfile(f"package/dist/{file}")
                (partial / file).write_bytes(source.read())
        kept.mkdir(exist_ok=True)
        for file in FILES:
            (partial / file).replace(kept / file)
