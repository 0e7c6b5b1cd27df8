"""Worker processes that start from nothing: a fork of a process that runs torch's threads or CUDA may hang."""

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def start_context(preloaded: str) -> Any:
    """A context of `multiprocessing` whose processes are forked from a server that runs nothing else.

    The server imports the module `preloaded` once for all of them. Windows has no such server: there every process
    starts Python anew.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([preloaded])
    return context


@contextmanager
def script_hidden() -> Iterator[None]:
    """Hide the script that called from the processes that the block starts, which would run it if it has no guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
