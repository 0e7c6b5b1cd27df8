"""The wheel that is built from this project, alone in a bare folder, trains, evaluates and opens the explorer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration

SCRIPT = """
import sys
from pathlib import Path
import labkit
bare = Path(sys.argv[1])
assert Path(labkit.__file__).is_relative_to(bare), labkit.__file__
images = {s: labkit.load_images("glyphs-mini", s, size=24, per_class=20, progress=False) for s in ("train", "val")}
tiny = labkit.experiment("quick", size=24, per_class=20, steps=3, batch=1, warmup=1, validate_every=3,
                         validation_episodes=4, test_query=5, backbone_options={"width": 0.05}, groups=4)
trained = labkit.train(tiny, images["train"], images["val"], bare / "run", progress=False)
print(labkit.evaluate(trained.model, images["val"], episodes=4, query=5))
print(labkit.load_model("quick").stride if hasattr(labkit.DMF, "stride") else "shipped weights are there")
from labkit.explorer.widget import explore
print(explore({"mine": trained.model}, images["val"], episodes=[0], shots=[1]))
"""


def test_the_wheel_alone_trains_evaluates_and_opens_the_explorer(tmp_path: Path) -> None:
    source, bare = tmp_path / "source", tmp_path / "bare"
    subprocess.run(["git", "-C", ROOT, "checkout-index", "-a", f"--prefix={source}/"], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", bare, wheel], check=True)
    environment = os.environ | {"PYTHONPATH": str(bare), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, bare], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "(5-way 1-shot, 4 episodes" in done.stdout
    helped = subprocess.run(
        [sys.executable, "-m", "labkit", "train", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "mini-thin" in helped.stdout
