"""The methods: DMF, and the systems it is compared with, one readable file each, all of them a `labkit.method.Method`.

An eleventh is one file here, named like the method in small letters, and nothing else is touched:

1. a class that inherits `Method` and calls ``super().__init__(backbone, classes, backbone_options)``;
2. its own arguments come after those as keywords with defaults, and `recipe` returns them beside the inherited ones;
3. ``score(support, query, support_mask)``: feature maps [E, N, K, c, h, w], [E, Q, c, h, w] to scores [E, Q, N];
4. ``loss(support, query, labels, base_labels)``: images to `Losses`, usually by `embed_together` and its own score;
5. no query and no episode may change the score of another; draw random numbers by a `labkit.noise.Noise` layer.

It is found by its file: ``Experiment(method="name", choices={...})`` trains it, `save_model` and `load_model` know it.
``tests/methods/test_contract.py`` tries it without being told; hold it to its paper's equations in a test of its own.
"""

import importlib
import inspect
import pkgutil

from labkit.dmf import DMF
from labkit.method import Method


def _found() -> dict[str, type[Method]]:
    """The method of every file of this folder, which bears the file's name, by that name."""
    methods: dict[str, type[Method]] = {"dmf": DMF}
    for file in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{file}")
        own = [
            kind
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Method) and kind.__module__ == module.__name__
        ]
        if len(own) != 1:
            raise TypeError(f"{module.__name__} must hold one Method, and holds {[kind.__name__ for kind in own]}")
        methods[file] = own[0]
    return methods


METHODS = _found()


def name_of(model: Method) -> str:
    """The name in `METHODS` of a model's method."""
    return next(name for name, kind in METHODS.items() if type(model) is kind)


__all__ = ["DMF", "METHODS", "Method", "name_of"]
