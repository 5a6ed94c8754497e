"""Settings of `clipmill run`: of the defaults that it runs where an input is given in place of a file of settings."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from clipmill.core.settings.shared import ModelSettings
from clipmill.core.values import Count, Option, Share


def _check_source(source: str) -> str:
    if not source.strip():
        raise ValueError("is missing: the folder to make searchable; type: clipmill run photos/")
    return source


class RunSettings(ModelSettings):
    """An input, or a run file, which says the rest itself; what may be asked of the defaults for an input."""

    GROUP: ClassVar[str] = "Options"

    source: Annotated[str, AfterValidator(_check_source), Option(argument=True, metavar="INPUT|CONFIG.yaml")] = Field(
        default="",
        validate_default=True,
        description="Pictures to make searchable (a folder, Parquet, tar archives or a list, local or s3://), or a run file.",
    )
    output: str | None = Field(
        default=None,
        description="Folder that versions are published to; local or s3://. Default: NAME.clipmill beside the input.",
    )
    save_config: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Also write the run file that this command stands for, to be changed and run by its name.",
    )
    image_column: str | None = Field(default=None, description="Default: found by its name and type.")
    caption_column: str | None = Field(default=None, description="Default: found by its name and type.")
    limit: Annotated[Count | None, Option(metavar="ROWS")] = Field(
        default=None, description="Embed only the first rows of the input: 5000, 500k, 10M."
    )
    max_row_loss: Share = Field(
        default=None,
        ge=0,
        description="Largest share of the published rows that may be missing from the input now (0.2, 20%). Default: 20%.",
    )
