"""Pictures: style, and the figures that several notebooks share."""

from labkit.plotting.curves import *  # noqa: F403
from labkit.plotting.pictures import *  # noqa: F403
from labkit.plotting.sampling import *  # noqa: F403
from labkit.plotting.style import *  # noqa: F403
