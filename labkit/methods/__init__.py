"""The methods: DMF, and the systems it is compared with, one readable file each, all of them a `labkit.method.Method`.

A method has `score` and `loss`, calls everything that a file must say of it in `recipe`, and stands in `METHODS`.
"""

from labkit.dmf import DMF
from labkit.method import Method
from labkit.methods.can import CAN

METHODS: dict[str, type[Method]] = {"dmf": DMF, "can": CAN}


def name_of(model: Method) -> str:
    """The name in `METHODS` of a model's method."""
    return next(name for name, kind in METHODS.items() if type(model) is kind)


__all__ = ["CAN", "DMF", "METHODS", "Method", "name_of"]
