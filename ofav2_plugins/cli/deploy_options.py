"""Options that the commands of deployment share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import check_addressed, with_settings

RunArgument = Annotated[Path, typer.Argument(help="The folder of a run or study, or of a fine-tuned network.")]
ArchOption = Annotated[Path, typer.Option(help="A JSON file: an architecture, or the search.json of a search.")]
EntryOption = Annotated[int | None, typer.Option(min=0, help="Which entry of a search's front, from 0.")]
ResolutionOption = Annotated[
    int | None, typer.Option(min=1, help="Input size in pixels; default: that of the file, or else the largest.")
]
ArmOption = Annotated[str | None, typer.Option(help="The arm of a study.")]
RunSeedOption = Annotated[int | None, typer.Option("--seed", help="The seed of the run, if the arm has several.")]
StepOption = Annotated[str | None, typer.Option(help="Weights of this step of the plan; default: the last one.")]
ExitRuleOption = Annotated[str, typer.Option(help="Confidence of an early exit: a plugin of ofav2.exit_rules.")]
BundleArgument = Annotated[Path, typer.Argument(help="The folder that `ofav2 export` wrote.")]
FormatOption = Annotated[
    str | None, typer.Option(help="One of the bundle's formats, or torch; default: onnx if it can be run, else torch.")
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Set a setting of a plugin: formats.onnx.opset=20. Repeatable.")
]


def plugins_with_settings(plugins: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Plugin references by option, with the settings from `--set OPTION.setting=value`.

    Args:
        plugins: Option -> the given plugin, or a list of plugins.
        overrides: All values of `--set`.

    Raises:
        UserError: `--set` addresses anything else.
    """
    check_addressed(overrides, plugins)
    return {field: with_settings(plugin, field, overrides) for field, plugin in plugins.items()}
