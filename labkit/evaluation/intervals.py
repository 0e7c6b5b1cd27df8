"""95 % intervals, over test episodes, over seeds and over classes, and what they allow to say of a difference.

An interval over episodes tells how well one trained network is known. It does not tell what the next training of the
same setting would reach: differences between settings are therefore paired by seed and get a t-interval over seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def over_episodes(values: ArrayLike) -> tuple[float, float]:
    """Mean over episodes and the half width of its 95 % interval, 1.96 s / sqrt(n), as the paper reports it."""
    numbers = np.asarray(values, float)
    return float(numbers.mean()), float(1.96 * numbers.std(ddof=1) / len(numbers) ** 0.5)


def over_seeds(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of differences paired by seed, and the half width of its 95 % t-interval (NaN for fewer than two)."""
    n = len(differences)
    if n < 2:
        return (float(differences[0]) if n else float("nan")), float("nan")
    from scipy.special import stdtrit  # slow to import, and `import labkit` should not be

    half = stdtrit(n - 1, 0.975) * np.std(differences, ddof=1) / n**0.5
    return float(np.mean(differences)), float(half)


def over_classes(
    correct: NDArray[np.float64], classes: NDArray[np.int64], count: int, seed: int, draws: int = 1000
) -> tuple[float, float]:
    """95 % interval of the accuracy in percent, had the novel classes been drawn anew: a bootstrap over classes.

    Args:
        correct: share of right answers for each class of each episode, [E, N].
        classes: numbers of these classes, [E, N], below `count`.
        count: classes there are.
        draws: how often the classes are drawn; an episode's class counts as often as its class was drawn.
    """
    share = np.bincount(classes.ravel(), correct.ravel(), minlength=count)
    seen = np.bincount(classes.ravel(), minlength=count)
    rng = np.random.default_rng((seed, 2))
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    right, asked = weights @ share, weights @ seen
    drawn = asked > 0  # a draw without any class that was seen says nothing
    low, high = np.percentile(100 * right[drawn] / asked[drawn], [2.5, 97.5])
    return float(low), float(high)


def entries(name: str, values: ArrayLike) -> dict[str, float]:
    """`over_episodes` as two entries of a row, ``name`` and ``name ci95``, rounded to three decimals."""
    mean, half = over_episodes(values)
    return {name: round(mean, 3), f"{name} ci95": round(half, 3)}


def row(measured: Any) -> dict[str, float]:
    """`entries` of several measurements by name: of a mapping, or of the columns of a table."""
    return {key: value for name, values in measured.items() for key, value in entries(name, values).items()}


def shown(mean: float, half: float, digits: int = 1) -> str:
    """A mean with its half width to be read: "27.4 ± 0.9"."""
    return f"{mean:z.{digits}f} ± {half:.{digits}f}"


def verdict(mean: float, half: float, above: str = "better", below: str = "worse") -> str:
    """What an interval says of a difference: `above` or `below` zero, or "not decidable" if it holds zero."""
    if not abs(mean) > half:  # also where the half width is NaN
        return "not decidable"
    return above if mean > 0 else below
