"""Settings of the stages that write words about pictures."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clipmill.core.settings.base import OutputSettings
from clipmill.core.settings.shared import ImagePathSettings, ModelSettings
from clipmill.core.values import Count, Names, Option, Rejects


class GeneratorSettings(ImagePathSettings, OutputSettings):
    """Which pictures, which model writes about them, and how a text is chosen."""

    GROUP: ClassVar[str] = "Model"
    PROMPTED: ClassVar[tuple[str, ...]] = ()
    CONTENT: ClassVar[tuple[str, ...]] = (
        "image_column",
        "id_column",
        "limit",
        "max_image_pixels",
        "allow_outside",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
    )

    input: str = Field(description="Pictures, as `clipmill embed --input` reads them.")
    model: str | None = Field(
        default=None,
        description="A folder with a model of transformers that takes pictures and writes words, or with a CoCa of open_clip; "
        "transformers:ORG/NAME; a CoCa of open_clip by name, with --pretrained. Default: the built-in one, which knows "
        "rendered scenes alone.",
    )
    pretrained: str | None = Field(
        default=None, description="open_clip tag or file; of a hub model a commit or a folder."
    )
    engine: Literal["auto", "open_clip", "transformers", "vllm", "http"] = Field(
        default="auto",
        description="What runs the model; auto goes by what lies in its folder; vllm runs models of transformers on GPUs, "
        "which has not been tried on one yet; http asks at --base-url.",
    )
    base_url: str | None = Field(
        default=None,
        description="Address that speaks OpenAI's chat completions (https://HOST/v1), whose model --model names; the key is "
        "read from CLIPMILL_API_KEY or OPENAI_API_KEY.",
    )
    requests_at_once: int = Field(default=8, ge=1, description="Most requests under way to --base-url.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="Number format that the model computes in; auto: bf16 on GPUs, else fp32."
    )
    batch_size: int = Field(
        default=0, ge=0, description="Pictures per batch. Default: 8 on CPUs, 32 on GPUs, 16 with vllm."
    )
    max_tokens: int = Field(default=60, ge=1, description="Most tokens of a text; one that is cut has finish = length.")
    temperature: float = Field(
        default=0.0, ge=0, description="0 takes the most probable token each time; above, tokens are drawn."
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Draw from the most probable tokens that make up this share."
    )
    seed: int = Field(default=0, description="Decides what is drawn.")
    examples: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="CSV, JSONL or Parquet with image (a path), prompt and answer: shown before every question, where the "
        "model takes messages.",
    )
    image_column: str | None = Field(default=None, description="Default: found by its name and type.")
    id_column: str | None = Field(
        default=None, description="Default: id, key, uid, image_id …; without one, ids are made from file and row."
    )
    limit: Annotated[Count | None, Option(metavar="ROWS")] = Field(
        default=None, description="Only the first rows of the input: 5000, 500k, 10M."
    )
    max_image_pixels: int = Field(default=178_956_970, ge=1, description="Larger images are rejected unread.")
    max_rejects: Rejects = Field(
        default=None,
        description="End the run when more pictures than this get no text: a number (500) or a share (1%).",
    )


class CaptionSettings(GeneratorSettings):
    """Pictures to captions."""

    CONTENT: ClassVar[tuple[str, ...]] = (*GeneratorSettings.CONTENT, "style", "prompt", "candidates")

    style: Literal["short", "detailed", "alt"] = Field(
        default="short",
        description="What a caption is like: alt is one sentence for a web page, of at most 125 characters.",
    )
    prompt: str | None = Field(
        default=None, description="What is asked of the model. Default: as its kind wants it for the style."
    )
    candidates: int = Field(
        default=1,
        ge=1,
        description="Captions per picture; more than one needs a --temperature, or all would be the same.",
    )


class AskSettings(GeneratorSettings):
    """Pictures and questions to answers."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        *GeneratorSettings.CONTENT,
        "question",
        "question_column",
        "choices",
        "length_normalise",
    )

    question: str | None = Field(default=None, description="Asked of every picture.")
    question_column: str | None = Field(
        default=None, description="Column of the input with a question for each picture."
    )
    choices: Names = Field(
        default=None,
        description="Answer with the most probable of these (yes,no), by the likelihood of the whole answer.",
    )
    length_normalise: bool = Field(
        default=False, description="Compare choices by their mean over tokens, which does not favour short ones."
    )


class RecaptionSettings(ImagePathSettings, ModelSettings, OutputSettings):
    """Captions and texts about the same pictures to source Parquet with those that are true."""

    GROUP: ClassVar[str] = "Input"
    CONTENT: ClassVar[tuple[str, ...]] = (
        "filter",
        "threshold",
        "recap_columns",
        "image_column",
        "caption_column",
        "id_column",
        "limit",
        "max_image_pixels",
        "allow_outside",
    )

    input: str = Field(description="Pictures with their captions, as `clipmill embed --input` reads them.")
    texts: str = Field(description="What `clipmill caption` wrote about the same input; local or s3://.")
    filter: Literal["itm", "clip"] = Field(
        default="clip",
        description="What says how well a text fits its picture: the cosine of a CLIP model, or itm, the head of a BLIP model "
        "that was trained to tell pairs that belong together.",
    )
    threshold: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Keep texts that score so much or more. Default: 0.5 with itm; with clip chosen from the data, so that "
        "about 2% of what is kept is wrong.",
    )
    recap_columns: bool = Field(
        default=False,
        description="Also write re_caption, org_caption, re_clip_score and org_clip_score, as Recap-DataComp-1B has them: the "
        "best text of either kind, kept or not.",
    )
    image_column: str | None = Field(default=None, description="Default: found by its name and type.")
    caption_column: str | None = Field(default=None, description="Default: found by its name and type.")
    id_column: str | None = Field(
        default=None, description="Default: id, key, uid, image_id …; without one, ids are made from file and row."
    )
    limit: Annotated[Count | None, Option(metavar="ROWS")] = Field(
        default=None, description="Only the first rows of the input: 5000, 500k, 10M."
    )
    max_image_pixels: int = Field(default=178_956_970, ge=1, description="Larger images are not read.")
