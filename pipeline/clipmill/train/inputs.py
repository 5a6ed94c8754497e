"""What is read by a training run, and what can be seen to be wrong with its settings before any work starts."""

from clipmill.core.errors import UserError
from clipmill.core.settings import TrainSettings
from clipmill.encoders.preprocess import Preprocessing
from clipmill.evaluation.classification.templates import load_templates
from clipmill.train.augment import Augmentation
from clipmill.train.captioning import refuse_without_decoder
from clipmill.train.mined import refuse_unusable_index
from clipmill.train.network import find_source
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
    if settings.mines:
        refuse_unusable_index(settings.hard_negatives)
    source = find_source(settings)
    if settings.loss == "coca":
        refuse_without_decoder(source)
    preprocessing = Preprocessing.from_open_clip({"size": 1, **source.preprocess})
    for uri in filter(None, (settings.input, settings.validation)):
        open_source(uri, preprocessing, settings)


def open_source(uri: str, preprocessing: Preprocessing, settings: TrainSettings) -> Source:
    """The input or the held-out data at ``uri``, with the columns that the settings name. Raises UserError as `Source.open`."""
    labels = (settings.label_column, load_templates(settings.templates)) if settings.label_column else None
    reads = (settings.image_column, settings.caption_column, settings.allow_outside or ())
    return Source.open(uri, preprocessing, *reads, labels)
