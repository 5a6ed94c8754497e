"""Settings of the search service, on this machine and on a cluster."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.settings.base import Settings
from clipmill.core.settings.shared import TRUST
from clipmill.core.values import Bytes, Option


def _check_places(places: tuple[str, ...]) -> tuple[str, ...]:
    if not places:
        raise ValueError(
            "is missing: an index, or an output of `clipmill run`; type it behind the command: photos.clipmill"
        )
    return places


class ExploreSettings(Settings):
    """Indices, and how they are asked on this machine. ``pretrained`` and ``model`` are where the model is to be had now."""

    places: Annotated[tuple[str, ...], AfterValidator(_check_places), Option(argument=True, metavar="[NAME=]URI …")] = (
        Field(default=(), validate_default=True, description="Indices, or outputs of `clipmill run`; local or s3://.")
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen at; 0: any that is free.")
    k_max: int = Field(default=1000, ge=1, le=100_000, description="Most results that may be asked for at once.")
    log_queries: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Keep what is searched for in this Parquet file, as `clipmill search --queries` reads it. Default: "
        "nothing is kept.",
    )
    model: str | None = Field(
        default=None, description="Name or folder of the index's model. Default: as its manifest says."
    )
    pretrained: str | None = Field(
        default=None, description="Where the weights of the index's model are now. Default: as its manifest says."
    )
    trust_remote_code: bool = Field(default=False, description=TRUST)
    resident: bool = Field(
        default=False,
        description="Keep the vectors for re-ranking in memory. Default: they are mapped, and the system keeps of them what it "
        "has room for.",
    )
    cache: Path = Field(default=DEFAULT_CACHE, description="Folder of local copies of what lies on S3.")


class ServeSettings(ExploreSettings):
    """The same as a service on Ray, for others too."""

    GROUP: ClassVar[str] = "Service"

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen at: 0.0.0.0 for other machines too, which takes --token-file.",
    )
    token_file: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Let in who has a token of this file: a line each, NAME: TOKEN. Read again when it changes.",
    )
    replicas: Annotated[str, Option(metavar="auto|N")] = Field(
        default="auto",
        pattern="^(auto|[1-9][0-9]{0,3})$",
        description="Copies of the service that share the requests; auto is one for each two cores of the cluster.",
    )
    shard_memory: Annotated[Bytes, Option(default="4GiB")] = Field(
        default=4 * 2**30,
        description="An index whose codes take more is divided among processes that hold so much each.",
    )
