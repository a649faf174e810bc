"""Short runs of the campaign of faults: no fault does harm."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="forks, kills and mounts")
@pytest.mark.parametrize(
    ("parts", "count"), [(("training", "builder", "writer", "archives", "carry"), 2), (("flipped", "inputs"), 8)]
)
def test_no_fault_does_harm(parts, count):
    command = [sys.executable, "-m", "tests.faults.campaign", "--count", str(count), "--only", *parts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "harm" not in done.stdout
    assert done.stdout.count("\n|") > len(parts)
