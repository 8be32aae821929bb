"""Laws are checked on the same examples in every run, however loaded the machine is."""

from hypothesis import settings

settings.register_profile("core", derandomize=True, deadline=None)
settings.load_profile("core")
