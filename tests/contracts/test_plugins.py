"""Every registered plugin keeps its namespace's contract: a new plugin is tested the day it is registered."""

from __future__ import annotations

import pytest

from ofav2_plugins import registry
from ofav2_plugins.testing import contract_tests
from ofav2_plugins.testing.contracts import CHECKS

test_contract = contract_tests()


def test_every_namespace_has_a_contract_test():
    assert set(CHECKS) == set(registry.NAMESPACES)


@pytest.mark.parametrize("namespace", registry.NAMESPACES)
def test_every_plugin_loads_and_has_a_summary(namespace):
    rows = [row for row in registry.describe() if row.namespace == namespace]
    assert rows
    for row in rows:
        assert row.problem is None, row
        assert row.summary.endswith("."), row
        if row.distribution == "ofav2-plugins":  # entry-point name = file
            expected = f"{row.name.replace('-', '_')}:"
            assert row.target.rpartition(".")[2].startswith(expected), row
