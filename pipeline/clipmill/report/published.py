"""What others published of a model: figures on public datasets, and what it costs. Never mixed with what is measured."""

from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.published import SOURCE, published_by_model, published_by_weights
from clipmill.report.document import PublishedFigure, PublishedPart

_DATASETS = {"flickr30k": "Flickr30k", "coco": "COCO"}
_DIRECTIONS = ("t2i", "i2t")


def published_of(model: ModelIdentity | None) -> PublishedPart | None:
    """The published facts of a model: figures where name and tag agree, cost where the name does; None where neither."""
    if model is None:
        return None
    quality, cost = published_by_weights().get((model.name, model.pretrained)), published_by_model().get(model.name)
    if cost is None:
        return None
    figures = _figures(quality) if quality else []
    return PublishedPart(
        model=model.name,
        pretrained=model.pretrained if quality else None,
        source=SOURCE,
        figures=figures,
        parameters=float(cost["params_m"]) * 1e6,
        image_gflops=float(cost["image_gflops"]),
        text_gflops=float(cost["text_gflops"]),
    )


def published_gflops(model: str) -> tuple[float, float] | None:
    """GFLOPs per image and per text at the full context length; None for a model that is not listed."""
    cost = published_by_model().get(model)
    return (float(cost["image_gflops"]), float(cost["text_gflops"])) if cost else None


def _figures(row: dict[str, str]) -> list[PublishedFigure]:
    figures = [PublishedFigure(dataset="ImageNet", task="zero-shot", title="acc1", value=float(row["imagenet_top1"]))]
    for column, dataset in _DATASETS.items():
        for direction in _DIRECTIONS:
            figures += [
                PublishedFigure(
                    dataset=dataset, task=direction, title=f"R@{k}", value=float(row[f"{column}_{direction}_r{k}"])
                )
                for k in (1, 5, 10)
            ]
    return figures
