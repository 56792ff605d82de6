"""The entry point of the contract tests: maps each namespace to its check."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .. import registry
from ..plugin import Plugin, PluginError, construct, reference_name
from .backbones import check_backbone
from .data import check_augmentation, check_dataset
from .deployment import check_exit_rule, check_exporter
from .execution import check_executor
from .loggers import check_logger
from .models import check_branch, check_exits, check_skip
from .optimizers import check_optimizer
from .search import check_predictor, check_searcher
from .training import check_distillation, check_phase, check_teacher

CHECKS: dict[str, Callable[[Any], None]] = {
    registry.BACKBONES: check_backbone,
    registry.BRANCHES: check_branch,
    registry.SKIPS: check_skip,
    registry.EXITS: check_exits,
    registry.PHASES: check_phase,
    registry.DISTILLATION: check_distillation,
    registry.TEACHERS: check_teacher,
    registry.DATASETS: check_dataset,
    registry.AUGMENTATIONS: check_augmentation,
    registry.OPTIMIZERS: check_optimizer,
    registry.LOGGERS: check_logger,
    registry.EXIT_RULES: check_exit_rule,
    registry.EXPORTERS: check_exporter,
    registry.PREDICTORS: check_predictor,
    registry.SEARCHERS: check_searcher,
    registry.EXECUTORS: check_executor,
}
"""Namespace -> check of one plugin."""


def check_plugin(namespace: str, plugin: Any) -> None:
    """Check one plugin against its namespace's contract.

    Args:
        namespace: "ofav2.branches" and so on.
        plugin: A name, `{"name": ..., setting: value}`, or an instance.

    Raises:
        AssertionError: The plugin breaks the contract; the message describes the violation.
        PluginError: It cannot be loaded, or a call into it fails; names the plugin.
    """
    if namespace not in CHECKS:
        raise PluginError(f"namespace must be one of {', '.join(CHECKS)}, but got {namespace!r}")
    instance = registry.load(namespace, plugin)
    assert inspect.getdoc(type(instance)), (
        f"{instance.name}: the class needs a docstring; its first line is the summary"
    )
    _check_settings(instance)
    with registry.calling(namespace, instance.name, "its contract test", passing=AssertionError):
        CHECKS[namespace](instance)


def _check_settings(instance: Plugin) -> None:
    """Check that settings are stored under their names, and that a plugin rebuilt from them has the same settings."""
    again = construct(type(instance), instance.settings, f"plugin {instance.name!r}")
    assert again.settings == instance.settings, f"{instance.name}: {again.settings} differs from {instance.settings}"


def contract_tests(distribution: str | None = None) -> Callable[..., None]:
    """A pytest test function that checks every plugin of a distribution.

    Args:
        distribution: Name of an installed distribution; None checks all that are installed.

    Raises:
        PluginError: The distribution registers no plugin.
    """
    import pytest

    found = [(row.namespace, row.name) for row in registry.describe() if distribution in (None, row.distribution)]
    if not found:
        raise PluginError(f"distribution {distribution!r} registers no plugin of ofav2; is it installed?")

    @pytest.mark.parametrize(("namespace", "plugin"), found, ids=[f"{n}-{reference_name(p)}" for n, p in found])
    def test_contract(namespace: str, plugin: str) -> None:
        check_plugin(namespace, plugin)

    return test_contract
