"""Shared by all tests: hypothesis with a fixed profile, two threads, upstream networks to compare with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fixed")
torch.set_num_threads(2)

VARIANT_NAMES = ["SE_B", "SE_D", "SE_P", "SE_DP", "EE_B", "EE_D", "EE_P", "EE_DP"]


@pytest.fixture(params=VARIANT_NAMES)
def variant(request: pytest.FixtureRequest) -> str:
    """Each of the eight supernets' names."""
    return request.param
