"""Settings shared by all tests."""

from hypothesis import settings

# The same examples every time: a test that fails only on some days teaches nobody anything. Those that a day's work can
# wait for; `pytest --hypothesis-profile=thorough` tries many more.
settings.register_profile("lab", max_examples=40, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", settings.get_profile("lab"), max_examples=700)
settings.load_profile("lab")
