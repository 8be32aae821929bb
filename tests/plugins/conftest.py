"""Tests of plugins share ``kit``; their laws are checked on the same examples in every run."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "plugins", derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
settings.load_profile("plugins")
