"""95 % intervals, over test episodes, over seeds and over classes, and what they allow to say of a difference.

An interval over episodes tells how well one trained network is known. It does not tell what the next training of the
same setting would reach: differences between settings are therefore paired by seed and get a t-interval over seeds. Nor
does it tell of other classes than those that were tested, which are twenty: that is the interval over classes.
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


def over_classes(values: ArrayLike, classes: NDArray[np.int64], count: int) -> float:
    """Half width of the 95 % interval of the mean over episodes, had their classes been drawn anew.

    Episodes can be drawn without end, classes cannot. A class moves the mean by its own answers and by those that it
    takes from the other classes of an episode. So values are fitted by a sum of one effect for each class (the first
    term of the mean as a U-statistic: Hoeffding, "A class of statistics with asymptotically normal distribution",
    1948), which gives n² Var(effect) / count for episodes of n of `count` classes; what the noise of single episodes
    adds to the variance of the effects is taken off, and that of the mean is added.

    Args:
        values: of episodes, an accuracy or a difference of two: [E].
        classes: numbers of the classes in every episode, below `count`: [E, N].
        count: classes there are.

    Returns:
        NaN where effects of classes cannot be told apart: fewer episodes than classes, or every class in each.
    """
    from scipy.special import stdtrit  # slow to import

    numbers, way = np.asarray(values, float), classes.shape[1]
    holds = np.zeros((len(numbers), count))
    np.put_along_axis(holds, classes, 1, axis=1)
    gram = holds.T @ holds
    if len(numbers) <= count or np.linalg.matrix_rank(gram) < count:
        return float("nan")
    inverse = np.linalg.inv(gram)
    effects = inverse @ (holds.T @ numbers)
    noise = ((numbers - holds @ effects) ** 2).sum() / (len(numbers) - count)
    of_noise = noise * (np.trace(inverse) - inverse.sum() / count) / (count - 1)
    variance = max(effects.var(ddof=1) - of_noise, 0.0)
    of_classes = stdtrit(count - 1, 0.975) * way * (variance / count) ** 0.5
    return float(np.hypot(of_classes, over_episodes(numbers)[1]))


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
