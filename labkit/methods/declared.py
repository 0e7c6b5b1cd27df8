"""Options that a method declares as annotated attributes of its class."""

import inspect

# What every method has in an instance, beside the attributes of `labkit.methods.base.Method`.
TAKEN = ("training", "backbone", "backbone_name", "backbone_options", "channels", "classes", "options", "preprocessing")


def annotated(kind: type) -> list[str]:
    """Names that a class itself annotates, without those of `ClassVar`."""
    return [name for name, hint in inspect.get_annotations(kind).items() if "ClassVar" not in f"{hint}"]


def refuse_taken(kind: type, base: type) -> None:
    """See that no option would take the place of something that every method has.

    Args:
        kind: the class that declares options.
        base: `labkit.methods.base.Method`.

    Raises:
        TypeError: it would.
    """
    own = [name for name in annotated(kind) if name in vars(kind)]
    if wrong := [name for name in own if name in TAKEN or hasattr(base, name)]:
        raise TypeError(f"{kind.__name__} has an option {wrong[0]!r}, which every method has: call it otherwise")
