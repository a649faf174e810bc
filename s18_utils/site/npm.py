"""Files of npm packages, for pages that fetch nothing from other hosts: fetched once and kept in the user's cache."""

import fnmatch
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_dir

from s18_utils.errors import InputError, make_folder

PATIENCE = 60  # seconds; on a network that drops what it gets npm would wait for minutes


def fetch_package(package: str, patterns: Sequence[str]) -> Path:
    """A folder with a package's files.

    Args:
        package: with its version, `katex@0.19.1`.
        patterns: of the files, as paths inside the package, `dist/*.js`.

    Returns:
        The folder; the files have their paths in it. It must not be changed.

    Raises:
        InputError: npm is missing or can't fetch the package, or the package has no such files.
    """
    kept = make_folder(Path(user_cache_dir("s18")) / "npm", "set XDG_CACHE_HOME to another folder") / package
    if kept.is_dir() and all(any(kept.glob(pattern)) for pattern in patterns):
        return kept
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm, which fetches {package}, is missing: install Node.js and build the site again")
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        words = [npm, "pack", "--fetch-retries=0", package]
        try:
            done = subprocess.run(words, cwd=name, capture_output=True, text=True, timeout=PATIENCE)
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            last = f"no answer in {PATIENCE} seconds"
        if last:
            raise InputError(f"npm can't fetch {package} ({last}): connect to the network and build the site again")
        partial = Path(name) / "files"
        with tarfile.open(next(Path(name).glob("*.tgz"))) as archive:
            for member in archive:
                path = PurePosixPath(member.name).relative_to("package")
                wanted = any(fnmatch.fnmatchcase(str(path), pattern) for pattern in patterns)
                if wanted and member.isfile() and ".." not in path.parts:
                    (partial / path).parent.mkdir(parents=True, exist_ok=True)
                    (partial / path).write_bytes(archive.extractfile(member).read())
        lacking = [pattern for pattern in patterns if not any(partial.glob(pattern))]
        if lacking:
            raise InputError(f"{package} has no {', '.join(lacking)}: choose a version of the package that has")
        shutil.rmtree(kept, ignore_errors=True)
        partial.rename(kept)
    return kept
