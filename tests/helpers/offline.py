"""``python -m tests.helpers.offline FOLDER``: the lab at work in a process that reports whatever asks for a network.

It imports every module, renders, trains, evaluates and makes an explorer, and prints what was asked for, a line each;
`tests/promises/test_supply_chain.py` wants none, and one where the process asks on purpose.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

asked: list[str] = []


def local(address: Any) -> bool:
    """A socket of this machine: a file, or the loopback device."""
    if not isinstance(address, tuple):
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] in ("localhost", "")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses what leaves this machine. Looking up one's own name, as torch's processes do, does not."""
    leaves = (
        (event in ("socket.connect", "socket.sendto", "socket.sendmsg") and not local(arguments[1]))
        or (event == "socket.getaddrinfo" and not local((arguments[0],)))
        or event == "urllib.Request"
        or (event == "subprocess.Popen" and Path(str(arguments[0])).name in ("curl", "wget", "pip", "git"))
    )
    if leaves:
        asked.append(f"{event} {arguments[:2]}")
        raise OSError(f"the lab asks for a network: {event} {arguments}")


def work(folder: Path) -> None:
    """A little of all that the lab does."""
    import labkit

    for module in pkgutil.walk_packages(labkit.__path__, "labkit."):
        importlib.import_module(module.name)
    from labkit.explorer.widget import explore
    from labkit.training.settings import experiment
    from tests.helpers.toys import toy_images

    os.environ["LABKIT_CACHE"] = str(folder / "cache")
    images = labkit.load_images("glyphs-mini", "val", size=40, per_class=2, progress=False)
    model = labkit.load_model("quick")
    labkit.evaluate(model, images, shot=1, query=1, episodes=2)
    explore({"quick": model}, images, episodes=(0,), shots=(1,), folder=folder)
    tiny = replace(
        experiment("quick"), steps=1, batch=1, way=3, query=2, test_query=2, validation_episodes=2, validate_every=1
    )
    labkit.train(tiny, toy_images(), toy_images(split="val"), folder / "run", progress=False)


if __name__ == "__main__":
    sys.addaudithook(watch)
    work(Path(sys.argv[1]))
    if sys.argv[2:] == ["on purpose"]:
        import contextlib
        import urllib.request

        with contextlib.suppress(OSError):
            urllib.request.urlopen("http://192.0.2.1", timeout=1)
    print("\n".join(asked))
