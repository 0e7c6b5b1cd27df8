"""Settings shared by all tests."""

from hypothesis import settings

# The same examples every time: a test that fails only on some days teaches nobody anything.
settings.register_profile("lab", derandomize=True, deadline=None, database=None)
settings.load_profile("lab")
