"""No hostile file runs anything, fills the memory or keeps its reader: each is refused, and named."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labkit.common.safe_pickle import ALLOWED
from labkit.common.torch_files import ALLOWED as ALLOWED_OF_TORCH
from labkit.data import decode
from tests.helpers.hostile.cases import faults
from tests.helpers.hostile.run import CASES, SPARE
from tests.helpers.hostile_pickles import hostile
from tests.helpers.real_files import encoded, some_pixels

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of each file asked for; of one on which the process died, a line without an outcome."""
    chosen = [item.callspec.params["name"] for item in request.session.items if "outcomes" in item.fixturenames]  # type: ignore[attr-defined]
    out = tmp_path_factory.mktemp("hostile") / "outcomes.jsonl"
    found: dict[str, dict[str, Any]] = {}
    while missing := [name for name in chosen if name not in found]:
        died = subprocess.run(
            [sys.executable, "-m", "tests.helpers.hostile.run", str(out), *missing], capture_output=True
        )
        before = len(found)
        found = {line["name"]: line for line in map(json.loads, out.read_text().splitlines())}
        assert len(found) > before, died.stderr.decode()[-2000:]
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name_and_does_nothing(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    assert faults(CASES[name], outcomes[name]) == []


def test_the_canary_would_have_shown_it_and_the_limit_binds(tmp_path: Path) -> None:
    unguarded = f"""
import pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 * {SPARE}, 2 * {SPARE}))
try:
    bytearray(3 * {SPARE})
except MemoryError:
    pickle.loads(bytes.fromhex(sys.argv[1]))
"""
    content = hostile(tmp_path / "canary")["deep inside"][0]
    subprocess.run([sys.executable, "-c", unguarded, content.hex()], check=True)
    assert (tmp_path / "canary").exists()


def test_what_is_allowed_is_short() -> None:
    """Whoever adds a name here has to think about what a stranger can do with it."""
    assert set(ALLOWED) == {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "_codecs.encode",
        "collections.OrderedDict",
        "collections.defaultdict",  # becomes a plain table; its factory, a name of the next line, is never called
        *(f"builtins.{name}" for name in ("int", "float", "str", "list", "dict", "bool", "tuple")),
    }
    tensors = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
    kinds = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
    beside = {"argparse.Namespace", "types.SimpleNamespace", "collections.defaultdict", "collections.Counter"}
    beside |= {
        f"builtins.{name}" for name in ["set", "frozenset", "int", "float", "str", "list", "dict", "bool", "tuple"]
    }
    beside |= {f"pathlib.{name}Path" for name in ("", "Posix", "Windows", "PurePosix", "PureWindows")}
    beside |= {"torch.Size", "torch.device"} | {
        f"torch.{name}"
        for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    }
    assert set(ALLOWED_OF_TORCH) == tensors | {f"torch.{kind}Storage" for kind in kinds} | set(ALLOWED) | beside
    assert decode.FORMATS == ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


@pytest.mark.parametrize(
    # Four that may meet do, however long a busy machine takes; those that may not are waited for a moment only.
    ("many", "expected", "seconds"),
    [(20 * 20, 4, 300.0), (20 * 20 - 1, 1, 0.5)],
    ids=["small", "large"],
)
def test_large_pictures_are_decoded_one_at_a_time(
    many: int, expected: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, guard, everyone = 0, 0, threading.Lock(), threading.Barrier(4)

    def waits_for_the_others(image: Image.Image) -> Image.Image:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        with contextlib.suppress(threading.BrokenBarrierError):  # of the first that waits in vain, and at once of all
            everyone.wait(seconds)
        with guard:
            inside -= 1
        return image

    monkeypatch.setattr(decode, "to_rgb", waits_for_the_others)
    monkeypatch.setattr(decode, "MANY_PIXELS", many)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode.read_rgb, [encoded(some_pixels(1, 20)[0])] * 4))
    assert most == expected
