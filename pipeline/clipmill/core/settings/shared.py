"""Settings that several stages share: the CLIP model and how it runs, and the Ray cluster."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clipmill.core.settings.base import Settings
from clipmill.core.values import Gpus, Option, Prefixes

TRUST = "Execute Python code that the model's repository brings, with all that this user may do."
"""Of an option of every command that loads a model."""


class ImagePathSettings(Settings):
    """Where images may lie that the input names by path. ``None`` is the folder of the file that names them."""

    GROUP: ClassVar[str] = "Input"

    allow_outside: Prefixes = Field(
        default=None,
        description="Also read images below this folder or s3:// prefix, where the input names them by path. May be given "
        "several times. Default: only those below the folder of the file that names them.",
    )


class ModelSettings(Settings):
    """Which model encodes, and how it runs.

    ``model=None`` is the built-in small model. ``pretrained`` is an open_clip tag, a checkpoint file or ``local-dir:``.
    ``preprocessing`` names the open_clip tag whose preprocessing a checkpoint file was trained with, where open_clip
    knows several for that model.
    """

    GROUP: ClassVar[str] = "Model"

    model: str | None = Field(
        default=None,
        description="open_clip model name, transformers:ORG/NAME, sentence-transformers:ORG/NAME, a folder that holds a model "
        "of one of the three, or the name of an encoder that an installed package brings. Default: the built-in small model.",
    )
    pretrained: str | None = Field(
        default=None,
        description="open_clip tag, checkpoint file, or local-dir:PATH; of a hub model a commit or a folder.",
    )
    preprocessing: Annotated[str | None, Option(metavar="TAG")] = Field(
        default=None, description="Tag whose preprocessing a checkpoint file was trained with."
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto", description="Number format that the encoders compute in; auto is the best for the device."
    )
    batch_size: int = Field(default=0, ge=0, description="Images per encoder call. Default: chosen for the device.")
    dimension: Annotated[int | None, Option(metavar="N")] = Field(
        default=None,
        ge=1,
        description="Keep the first N components of every vector, and normalise again: for models trained to be cut "
        "(Matryoshka). Default: all.",
    )
    trust_remote_code: bool | None = Field(default=None, description=TRUST)

    @property
    def model_settings(self) -> "ModelSettings":
        """These settings without what a stage adds to them."""
        return ModelSettings(**{name: getattr(self, name) for name in ModelSettings.model_fields})


Products = Literal["auto", "cpu", "gpu"]
"""What products of many vectors with many are computed on; ``auto`` is cores, until GPUs were measured."""


class ProductSettings(Settings):
    """What products of many vectors with many are computed on."""

    products: Products = Field(
        default="auto",
        description="What compares many vectors with many: cores, or a GPU with gpu, which was not measured yet and is "
        "never chosen by auto. Results are the same but for rounding.",
    )


class ClusterSettings(Settings):
    """Where Ray runs and what it may use. Zeros choose from the cluster that is found."""

    GROUP: ClassVar[str] = "Ray cluster"

    address: str | None = Field(
        default=None, description="Ray cluster to use. Default: RAY_ADDRESS, else a local one for this command."
    )
    cpus: int = Field(default=0, ge=0, description="Cores of a local cluster. Default: all of this machine.")
    stall_timeout: Annotated[float, Option(metavar="SECONDS")] = Field(
        default=900.0, gt=0, description="End a run that makes no progress at all for this long."
    )
    device: Literal["auto", "gpu", "cpu"] = Field(
        default="auto",
        description="Where encoders run, whatever is up when a run begins: on GPUs, which are waited for; on CPUs; or auto, "
        "on GPUs where this machine or cluster has some or can get some.",
    )
    wait_for_gpu: Annotated[float, Option(metavar="SECONDS")] = Field(
        default=600.0, ge=0, description="How long to wait for nodes, with GPUs or without, that a cluster is to bring."
    )
    num_gpu_actors: int = Field(default=0, ge=0, description="Encoder actors on GPUs. Default: what the GPUs hold.")
    gpus_per_actor: Gpus = Field(default=1.0, gt=0, description="GPUs, or share of one GPU, per encoder actor.")
    drivers: int = Field(
        default=0,
        ge=0,
        description="Executions of Ray Data side by side, each over a slice of the rows with its share of the encoders. "
        "Default: one for 2 GPUs or 32 encoders on cores.",
    )
