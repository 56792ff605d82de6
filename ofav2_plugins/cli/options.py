"""Options that several commands share, and the objects that are built from them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..errors import UserError
from ..plugin import describe_reference
from ..utils.progress import say
from ..utils.yaml_files import Override, apply_override, override_key, parse_yaml

if TYPE_CHECKING:
    from ..training.context import LoggingOptions
    from ..training.run_config import RunConfig

SUPERNET = typer.Option(
    help="SE_ or EE_ followed by B, D, P or DP; or 'branches=a+b,skip=c,exits=d' with plugin names."
)
SupernetOption = Annotated[str, SUPERNET]
RecipeOption = Annotated[
    str, typer.Option(help="A recipe that ships with the package (`ofav2 recipe list`), or a path to a .yaml file.")
]
DatasetOption = Annotated[str, typer.Option(help="A plugin of ofav2.datasets; `ofav2 plugins` lists them.")]
RootOption = Annotated[Path | None, typer.Option(help="The folder of the dataset (fashion-mini needs none).")]
TeacherOption = Annotated[str | None, typer.Option(help="none, fixed or progressive; default: the recipe's.")]
DistillationOption = Annotated[str | None, typer.Option(help="none, soft_ce or mse; default: the recipe's.")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Set a field of the recipe or a setting of a plugin: phases.full.epochs=3, distillation.temperature=4, "
        "dataset.per_class=200, supernet.skip.rate=0.1. Repeatable.",
    ),
]
PhasesOption = Annotated[str | None, typer.Option(help="Run only these phases of the recipe: level,height.")]
InitFromOption = Annotated[
    Path | None, typer.Option(help="Initial weights: an OFA checkpoint or the best.safetensors of a run.")
]
InitPartialOption = Annotated[
    bool,
    typer.Option("--init-partial", help="Drop exits and branches of the --init-from file that the supernet lacks."),
]
OutOption = Annotated[Path, typer.Option(help="The run folder; must be new or empty, except with --resume.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out; finished steps are kept.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all random numbers.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
AcceptChangesOption = Annotated[
    bool, typer.Option("--accept-changes", help="Resume even if other code or another device started the run.")
]
SaveEveryOption = Annotated[float, typer.Option(min=0, help="Seconds between checkpoints within an epoch.")]
LoggerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--logger", help="A plugin of ofav2.loggers: tensorboard, energy,country=DEU, mlflow,uri=URI. Repeatable."
    ),
]
TensorBoardOption = Annotated[bool, typer.Option("--tensorboard", help="Short for --logger tensorboard.")]
EnergyOption = Annotated[
    str | None, typer.Option(help="Short for --logger energy,country=CODE; the country's code: DEU, USA.")
]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        help="A plugin of ofav2.executors: serial, processes, ray or slurm. Default: serial, or processes "
        "with --workers or --memory."
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Largest number of workers at the same time; 1 without --executor is serial.")
]
MemoryOption = Annotated[
    float | None, typer.Option(help="Memory limit in GiB for all worker processes together; excess workers wait.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster, or auto for a running one. Default: Ray on this machine.")
]
StorageOption = Annotated[
    str | None,
    typer.Option(help="URL (s3://bucket/folder) through which checkpoints travel if machines share no file system."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of torch in each worker. Default: all idle cores, shared; a resumed run keeps its number.",
    ),
]


def plugin_option(text: str) -> Any:
    """A plugin given on the command line: `NAME`, `NAME,setting=value,...` or `{name: NAME, setting: value}`.

    Raises:
        UserError: The text has a different form.
    """
    if text.startswith("{"):
        return parse_yaml(text)
    name, *settings = re.split(r",(?=\s*\w+=)", text)  # not at a comma within a value: [1, 2]
    keys = [override_key(setting).strip() for setting in settings]
    if len(set(keys)) < len(keys):
        raise UserError(f"each setting of a plugin may be given once, but got {text!r}")
    plugin: Any = name
    for setting in settings:
        plugin = apply_override({"plugin": plugin}, f"plugin.{setting.strip()}")["plugin"]
    return plugin


def logging_options(
    save_every: float, loggers: Sequence[str] | None = None, tensorboard: bool = False, energy: str | None = None
) -> LoggingOptions:
    """Checkpoints and loggers from their options; `--tensorboard` and `--energy` are shorthands for loggers."""
    from ..training.context import LoggingOptions

    given = [plugin_option(text) for text in loggers or []]
    given += ["tensorboard"] if tensorboard else []
    given += [{"name": "energy", "country": energy}] if energy is not None else []
    return LoggingOptions(save_every, tuple(given))


def with_settings(plugin: Any, field: str, overrides: Sequence[str]) -> Any:
    """The plugin of an option, with the settings from `--set FIELD.setting=value`."""
    data: dict[str, Any] = {field: plugin_option(plugin) if isinstance(plugin, str) else plugin}
    for override in overrides:
        if override_key(override).startswith(f"{field}."):
            data = apply_override(data, override)
    return data[field]


def supernet_option(supernet: str, overrides: Sequence[str]) -> Any:
    """The supernet of an option, with the plugin settings from `--set supernet.skip.setting=value`."""
    from ..models.spec import resolve_spec

    given = [override for override in overrides if override_key(override).startswith("supernet.")]
    if not given:
        return supernet
    data: dict[str, Any] = {"supernet": resolve_spec(supernet).to_dict()}
    for override in given:
        data = apply_override(data, override)
    return data["supernet"]


def executor_option(executor: str | None, overrides: Sequence[str], **settings: Any) -> Any:
    """The executor of an option, with settings from named options and from `--set executor.setting=value`.

    Args:
        executor: The name; None chooses it from the settings.
        overrides: All values of `--set`.
        settings: Settings from named options; None if the option is not given.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if executor is None and given.get("workers") == 1 and len(given) == 1:
        given = {}
    chosen = plugin_option(executor or ("processes" if given else "serial"))
    named = chosen if isinstance(chosen, dict) else {"name": chosen}
    return with_settings({**named, **given}, "executor", overrides)


def check_addressed(overrides: Sequence[str], fields: Collection[str]) -> None:
    """Raise UserError if `--set` addresses anything other than a setting of the plugins in these fields."""
    for override in overrides:
        if override_key(override).partition(".")[0] not in fields:
            raise UserError(f"--set must address a setting of {' or '.join(fields)}, but got {override!r}")


_OUTSIDE = ("supernet", "dataset", "executor")
"""Fields of `--set` whose settings do not belong to the recipe."""


def recipe_overrides(overrides: Sequence[str], **named: str | None) -> list[Override]:
    """The overrides of a recipe: first from named options (`--teacher`), then from `--set`.

    Raises:
        UserError: A named option and `--set` both choose the plugin of a field, or `--set` replaces a plugin that is
            not part of the recipe.
    """
    for override in overrides:
        if (field := override_key(override)) in _OUTSIDE:
            raise UserError(
                f"--set must address a setting of the {field}, such as {field}.setting=value, but got {override!r}; "
                f"choose the {field} itself with --{field} or in the study file"
            )
    own: list[Override] = [(field, plugin_option(value)) for field, value in named.items() if value is not None]
    for field in (override_key(override) for override in own):
        for override in overrides:
            if override_key(override) in (field, f"{field}.name"):
                raise UserError(f"--{field} and --set {override!r} contradict each other; give one of them")
    return own + [o for o in overrides if override_key(o).partition(".")[0] not in _OUTSIDE]


def run_from_options(
    supernet: str,
    recipe: str,
    overrides: Sequence[str],
    teacher: str | None,
    distillation: str | None,
    phases: str | None,
    init_from: Path | None,
    init_partial: bool,
    seed: int,
) -> RunConfig:
    """The run that the options of `plan` and `train` describe. Loads all of its plugins to validate them."""
    from ..models.pretrained import load_initial
    from ..models.spec import supernet_label
    from ..recipes.schema import load_recipe
    from ..study.schema import check_supernet
    from ..training.run_config import RunConfig

    chosen = supernet_option(supernet, overrides)
    check_supernet(chosen)
    resolved = load_recipe(recipe, recipe_overrides(overrides, teacher=teacher, distillation=distillation))
    resolved.check_teacher_is_used(teacher, "--teacher", "omit --teacher or choose another --distillation")
    if phases is not None:
        resolved = resolved.with_phases([name.strip() for name in phases.split(",")])
    if init_partial and init_from is None:
        raise UserError("--init-partial needs --init-from")
    initial = load_initial(init_from, init_partial) if init_from else None
    name = f"{supernet_label(chosen)} {describe_reference(resolved.teacher)}"
    return RunConfig(name, chosen, resolved, seed, initial)


@contextmanager
def stopped(out: Path) -> Iterator[None]:
    """On Ctrl-C, print the folder of the finished work."""
    try:
        yield
    except KeyboardInterrupt:
        from ..execution.run_folder import RUN_FILE

        if (out / RUN_FILE).exists():
            say(Console(stderr=True), f"everything done so far is kept in {out}; add --resume to continue", "yellow")
        raise
