"""Published figures are those of the very weights, and cost that of the architecture; nothing is made up."""

import pytest

from captioned import identity
from clipmill.core.manifests import ModelIdentity
from clipmill.report.published import published_of


def model(name: str, pretrained: str) -> ModelIdentity:
    return identity(512).model_copy(update={"name": name, "pretrained": pretrained})


def test_figures_of_known_weights_are_the_published_ones() -> None:
    part = published_of(model("ViT-B-32", "commonpool_m_basic_s128m_b4k"))
    assert part is not None
    figures = {(figure.dataset, figure.task, figure.title): figure.value for figure in part.figures}
    assert len(figures) == 13
    assert figures["ImageNet", "zero-shot", "acc1"] == 0.2255
    assert figures["Flickr30k", "t2i", "R@1"] == 0.1874
    assert figures["COCO", "i2t", "R@10"] == 0.4654
    assert (part.image_gflops, part.text_gflops) == (8.82, 5.96)
    assert part.parameters == pytest.approx(151.28e6)
    assert "89fb801f" in part.source


def test_of_other_weights_only_the_cost_is_known() -> None:
    part = published_of(model("ViT-B-32", "/models/mine.safetensors"))
    assert part is not None
    assert (part.figures, part.pretrained, part.image_gflops) == ([], None, 8.82)


def test_what_is_broken_upstream_is_left_out() -> None:
    part = published_of(model("coca_ViT-B-32", "mscoco_finetuned_laion2b_s13b_b90k"))
    assert part is not None
    assert part.figures == []


def test_of_unknown_models_nothing_is_said() -> None:
    assert published_of(model("tiny", "openai")) is None
    assert published_of(None) is None
