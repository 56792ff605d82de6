"""Contract tests for plugins, for third parties to run against their own.

One plugin::

    from ofav2_plugins.testing import check_plugin
    check_plugin("ofav2.distillation", {"name": "kl", "temperature": 2})

All plugins of an installed distribution, as a pytest test::

    from ofav2_plugins.testing import contract_tests
    test_contract = contract_tests("my-distribution")
"""

from .contracts import check_plugin, contract_tests

__all__ = ["check_plugin", "contract_tests"]
