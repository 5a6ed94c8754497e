"""What is read by a training run, and what can be seen to be wrong with its settings before any work starts."""

from dataclasses import replace

import pyarrow as pa

from clipmill.core.errors import UserError
from clipmill.core.settings import TrainSettings
from clipmill.encoders.protocol import Preparation
from clipmill.evaluation.classification.templates import load_templates
from clipmill.train.augment import Augmentation
from clipmill.train.learners import check_model, find_sounds
from clipmill.train.mined import refuse_unusable_index
from clipmill.train.rows import Source


def check(settings: TrainSettings) -> None:
    """Raises UserError for what can be seen to be wrong before workers are started: the settings together, the model, the
    inputs, their columns."""
    Augmentation.of(settings.augment or ())
    if settings.label_column and settings.caption_column:
        raise UserError("--label-column and --caption-column both say what the texts are: leave one of them out")
    for option, given in (("--interpolate", settings.interpolate), ("--stop-after", settings.stop_after)):
        if given and not settings.validation:
            raise UserError(f"{option} needs held-out images to measure on: give --validation too")
    if settings.compare_on and not settings.report:
        raise UserError("--compare-on is told in a report: give --report too")
    if settings.report and settings.output.startswith("s3://"):
        raise UserError("--report embeds with the model, which has to be local for that: give a local --output")
    for option, given in (("--interpolate", settings.interpolate), ("--lora", settings.lora)):
        if given and not settings.pretrained:
            raise UserError(f"{option} starts from weights that are trained: give --pretrained too")
    if settings.near_duplicates is not None and not (settings.validation and settings.pretrained):
        raise UserError(
            "--near-duplicates compares pictures with held-out ones by the model that the training starts from: give "
            "--validation and --pretrained too"
        )
    check_loss(settings)
    if settings.mines:
        refuse_unusable_index(settings.hard_negatives)
    pictures = check_model(settings)
    for uri in filter(None, (settings.input, settings.validation)):
        source = open_source(uri, pictures, settings)
        if settings.question_column is not None and source.columns.caption_is_list:
            _refuse_unpaired(source, settings)


def check_loss(settings: TrainSettings) -> None:
    """Raises UserError for options that mean nothing for the loss."""
    asks = {"--question-column": settings.question_column, "--answer-column": settings.answer_column}
    if len({column is None for column in asks.values()}) == 2:
        given, missing = sorted(asks, key=lambda option: asks[option] is None)
        raise UserError(f"{given} is given without {missing}: an answer belongs to a question")
    if settings.answer_column and settings.caption_column:
        raise UserError("--answer-column and --caption-column both say what the texts are: leave one of them out")
    if settings.answer_column and settings.loss != "lm":
        raise UserError("--question-column and --answer-column are for a model that learns to answer: add --loss lm")
    of_towers: dict[str, object] = {
        "--lora": settings.lora,
        "--near-duplicates": settings.near_duplicates is not None,
        "--report": settings.report,
        "--audio-column": settings.audio_column,
    }
    of_texts: dict[str, object] = {
        "--label-column": settings.label_column,
        "--hard-negatives": settings.hard_negatives != "none",
    }
    means_nothing = {"lm": {**of_towers, **of_texts}, "itm": of_towers}.get(settings.loss, {})
    if idle := [option for option, value in means_nothing.items() if value]:
        raise UserError(f"{', '.join(idle)}: not for --loss {settings.loss}; leave it out")


def open_source(uri: str, pictures: Preparation, settings: TrainSettings) -> Source:
    """The input or the held-out data at ``uri``, with the columns that the settings name. Raises UserError as `Source.open`."""
    labels = (settings.label_column, load_templates(settings.templates)) if settings.label_column else None
    texts = settings.answer_column or settings.caption_column
    source = Source.open(
        uri,
        pictures,
        settings.image_column,
        texts,
        settings.allow_outside or (),
        labels,
        settings.audio_column,
        find_sounds(settings),
    )
    if settings.question_column is not None:
        _refuse_unlike_answers(source, settings.question_column)
    return replace(source, question_column=settings.question_column)


def _refuse_unlike_answers(source: Source, column: str) -> None:
    """Raises UserError for a column of questions that is not there, or is one text a row where answers are lists, or lists
    where they are not."""
    for file in source.inputs:
        if column not in file.schema.names:
            raise UserError(
                f"--question-column {column}: {file.path} has no such column; it has {', '.join(file.schema.names)}"
            )
        kind = file.schema.field(column).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if is_list != source.columns.caption_is_list:
            raise UserError(
                f"--question-column {column} is {kind} in {file.path}, and --answer-column {source.columns.caption_column} is "
                f"{'a list' if source.columns.caption_is_list else 'one text a row'}: both have to be lists, or neither"
            )


def _refuse_unpaired(source: Source, settings: TrainSettings) -> None:
    """Raises UserError for a row with another number of questions than of answers, whose pairs nobody can tell. Only these two
    columns are read, a unit of rows at a time."""
    places = {file.ordinal: file.path for file in source.inputs}
    for unit, (answers, questions) in zip(source.units, source.paired(), strict=True):
        rows = (f"row {span.start + at} of {places[span.ordinal]}" for span in unit.spans for at in range(span.rows))
        for place, given, asked in zip(rows, answers, questions, strict=True):
            if given is not None and asked is not None and len(given) != len(asked):
                raise UserError(
                    f"{place} has {len(asked)} questions in {settings.question_column} and {len(given)} answers in "
                    f"{settings.answer_column}: an answer belongs to the question at its place, so make both lists of one "
                    "length, with null or an empty text where there is no answer"
                )
