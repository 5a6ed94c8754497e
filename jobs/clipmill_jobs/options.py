"""The options of a command, made from its settings: a field of the model is the only place where an option is declared.

    @click.command("embed", cls=Job)
    @settings_options(settings=EmbedSettings, cluster=ClusterSettings)
    @click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
    def command(settings: EmbedSettings, cluster: ClusterSettings, dry_run: bool) -> None: ...

A field's description is the option's help, its type says how it is given, its default is shown. Nothing is checked while
the command line is read: all mistakes in it are found by the models, and told at once.
"""

import functools
import os
import types
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from clipmill.core.errors import UserError
from clipmill.core.settings import ClusterSettings, Settings, check
from clipmill.core.settings.base import flag_of, option_of
from clipmill.core.values import parse_bytes, parse_count
from clipmill.storage.copies import LIMIT_VARIABLE

Function = Callable[..., Any]
GENERAL = "General"
"""The heading of options that belong to no settings: --json, --help."""

WITHOUT_ENCODERS = ("device", "wait_for_gpu", "num_gpu_actors", "gpus_per_actor")
"""What a command leaves out of ``ClusterSettings`` that does not encode on GPUs."""


class SettingsOption(click.Option):
    """An option that stands for a field of settings. ``group`` is its heading in help."""

    def __init__(self, *arguments: Any, group: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.group = group


class _UncheckedChoice(click.Choice[str]):
    """Choices for help and for completion in the shell; the settings refuse another value."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return value


class PlaceType(click.ParamType[str]):
    """Text that may be a file or a folder, which the shell completes as such."""

    name = "text"

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leaves it to the shell, which knows its files."""
        return [CompletionItem(incomplete, type="file")]


PLACE = PlaceType()


class ValueType(click.ParamType[int]):
    """A number as people write it, read by ``parse``, for options that are in no settings."""

    def __init__(self, name: str, parse: Callable[[str], int], minimum: int) -> None:
        self.name = name
        self._parse = parse
        self._minimum = minimum

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """Fails with what is wrong and what is understood."""
        try:
            number = self._parse(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)
        if number < self._minimum:
            self.fail(f"must be {self._minimum} or more; {value!r} was given", parameter, context)
        return number


COUNT = ValueType("rows", parse_count, 1)
"""A number of rows: 5000, 500k, 10M, 5e9."""
SIZE = ValueType("size", parse_bytes, 1)
"""A number of bytes: 24MB, 4GiB."""


def settings_options(
    *,
    exclude: Collection[str] = (),
    help_of: dict[str, str] | None = None,
    instead: str | None = None,
    **models: type[Settings],
) -> Callable[[Function], Function]:
    """Gives a command the options of ``models``, and hands it the settings built of them under the models' keywords.

    ``exclude`` names fields that are no options of this command, and keep their defaults. ``help_of`` replaces the
    description of a field by what it means to this command. Mistakes of all models are one UserError.

    ``instead`` names the last of the models, and a field of it: where that is given, only this model is built and the others
    are None; where it is not, it is this model that is None. An option that only those have which are not built is a mistake.
    """
    shown: dict[str, type[Settings]] = {}
    for model in models.values():
        for field in model.model_fields:
            if field not in exclude:
                shown.setdefault(field, model)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(*arguments: Any, **values: Any) -> Any:
            given = {field: values.pop(field, None) for field in shown}
            given = {field: value for field, value in given.items() if value not in (None, ())}
            chosen = _chosen(models, instead, given)
            unused = dict.fromkeys(set(models) - set(chosen))
            return function(*arguments, **_build(chosen, given), **unused, **values)

        parameters = [_parameter(model, field, (help_of or {}).get(field)) for field, model in shown.items()]
        run.__click_params__ = [*getattr(function, "__click_params__", []), *reversed(parameters)]  # type: ignore[attr-defined]
        return run

    return decorate


def cluster_options(function: Function) -> Function:
    """The options of a command that runs on Ray without encoding there; it is handed ``cluster``."""
    return settings_options(cluster=ClusterSettings, exclude=WITHOUT_ENCODERS)(function)


def _chosen(
    models: dict[str, type[Settings]], instead: str | None, given: Mapping[str, Any]
) -> dict[str, type[Settings]]:
    """The models that are built. Raises UserError for options that are for others."""
    if instead is None:
        return models
    chosen = {name: model for name, model in models.items() if (name == instead) == (instead in given)}
    known = {field: info for model in models.values() for field, info in model.model_fields.items()}
    strange = [
        field
        for field, value in given.items()
        if value != known[field].default and not any(field in model.model_fields for model in chosen.values())
    ]
    if strange:
        named = f"--{instead}" if instead in given else f"commands without --{instead}"
        raise UserError(f"--{strange[0].replace('_', '-')} is not for {named}")
    return chosen


def _build(models: dict[str, type[Settings]], given: dict[str, Any]) -> dict[str, Settings]:
    built, mistakes = {}, []
    for keyword, model in models.items():
        made, wrong = check(model, {field: value for field, value in given.items() if field in model.model_fields})
        mistakes += wrong
        if made is not None:
            built[keyword] = made
    if mistakes:
        raise UserError("; ".join(mistakes))
    return built


def _parameter(model: type[Settings], field: str, help_text: str | None) -> click.Parameter:
    """The option or argument that stands for a field."""
    info, option, kind = model.model_fields[field], option_of(model, field), _kind(model.model_fields[field].annotation)
    several = get_origin(kind) is tuple and not option.separated
    flag = flag_of(model, field)
    if option.argument:
        nargs = -1 if several else 1
        return click.Argument([field], metavar=option.metavar, nargs=nargs, required=False, type=PLACE)
    details: dict[str, Any] = {"group": _group(model, field), "default": None}
    if kind is bool:
        names = f"{flag}/--no-{field.replace('_', '-')}" if info.default else flag
        details |= {"is_flag": True, "default": info.default}
    else:
        names = flag
        details |= {"type": _type(kind), "metavar": option.metavar or _METAVARS.get(kind), "multiple": several}
    return SettingsOption([names, field], help=_help(model, field, help_text or info.description or ""), **details)


_METAVARS: dict[Any, str] = {int: "INTEGER", float: "FLOAT"}


def _kind(annotation: Any) -> Any:
    """The type of a value that is given, without None and without annotations: ``int`` of ``Annotated[int, …] | None``.

    Of a choice between types it is the last."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _kind([part for part in get_args(annotation) if part is not type(None)][-1])
    return annotation


def _type(kind: Any) -> click.ParamType[Any]:
    return _UncheckedChoice(list(get_args(kind))) if get_origin(kind) is Literal else PLACE


def _help(model: type[Settings], field: str, text: str) -> str:
    """The description, and the default where the description does not tell it.

    That a field is required is told here and not to click, which would tell of one that is missing and of no other mistake.
    """
    default = option_of(model, field).default
    if model.model_fields[field].is_required():
        return f"{text}  [required]"
    if default is None:
        value = model.model_fields[field].default
        if value in (None, ()) or value is False or "Default:" in text:
            return text
        default = field.replace("_", "-") if value is True else str(value)
    return f"{text}  [default: {default}]"


def _group(model: type[Settings], field: str) -> str:
    """The heading of a field: that of the class which declares it."""
    owner = next(cls for cls in reversed(model.__mro__) if field in getattr(cls, "model_fields", {}))
    return str(vars(owner).get("GROUP", Settings.GROUP))


def format_grouped(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Writes the options under the headings of their groups, those of the command itself first and the general ones last."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            groups.setdefault(getattr(parameter, "group", GENERAL), []).append(record)
    if set(groups) == {GENERAL}:
        groups = {Settings.GROUP: groups[GENERAL]}
    order = ["Input", Settings.GROUP, "Service", "Model", "Output", GENERAL, "Ray cluster"]
    for heading in sorted(groups, key=order.index):
        with formatter.section(heading):
            formatter.write_dl(groups[heading])


def _set_cache_limit(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Says it in the environment, which workers of this machine inherit. Raises BadParameter for what is no size."""
    if value is None:
        return
    try:
        parse_bytes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    os.environ[LIMIT_VARIABLE] = value


cache_limit_option = click.option(
    "--cache-limit",
    callback=_set_cache_limit,
    expose_value=False,
    metavar="SIZE",
    help="Delete copies that were used longest ago where all take more than this. Default: 20GiB.",
)
"""Of commands that work from copies of what lies on S3."""
