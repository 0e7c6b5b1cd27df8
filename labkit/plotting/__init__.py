"""Pictures: style and the figures that several notebooks share."""

from labkit.plotting.figures import *  # noqa: F403
