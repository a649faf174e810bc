"""onnxruntime-web, which runs ONNX files in a browser: fetched from npm, and packed for the way."""

import gzip
import shutil
from pathlib import Path

from s18_utils.site.npm import fetch_package

PACKAGE = "onnxruntime-web@1.22.0"
# The loader of the build that needs WebAssembly alone, and the two files that it asks for.
SCRIPTS = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs")
BINARY = "ort-wasm-simd-threaded.wasm"


def copy_runtime(folder: Path) -> None:
    """Writes the runtime's files into a folder, from the user's cache or from npm.

    The WebAssembly is packed, 3 MB instead of 11: plain file servers do not pack what they send.

    Raises:
        InputError: npm is missing or can't fetch the package.
    """
    package = fetch_package(PACKAGE, [f"dist/{name}" for name in (*SCRIPTS, BINARY)])
    for name in SCRIPTS:
        shutil.copy(package / "dist" / name, folder)
    content = (package / "dist" / BINARY).read_bytes()
    (folder / f"{BINARY}.gz").write_bytes(gzip.compress(content, mtime=0))
