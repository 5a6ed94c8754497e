"""The stages that write texts about pictures, choose among them and measure them, as `clipmill.runs.stages` has the others."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from clipmill.core.reporter import Reporter
from clipmill.core.settings import (
    AskSettings,
    ClusterSettings,
    GeneratorSettings,
    RecaptionSettings,
    TextEvaluationSettings,
)
from clipmill.core.takedown import NOTHING, Takedown
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest
from clipmill.runs.stages import load_here
from clipmill.stage.stage import Made, Work

if TYPE_CHECKING:
    from clipmill.report.document import Report
    from clipmill.source.input_file import InputFile
    from clipmill.words.scorers.protocol import Scorer

_LOG = logging.getLogger(__name__)


def words_stage(
    settings: GeneratorSettings,
    cluster: ClusterSettings,
    reporter: Reporter,
    removed: Takedown = NOTHING,
    inputs: list[InputFile] | None = None,
) -> Made[TextsManifest]:
    """Writes captions of pictures, or answers to questions about them; not of what was ``removed``. ``inputs`` are the files of
    the input, where they are known."""
    from clipmill.engine.device import check_device, check_vllm
    from clipmill.words.asking import Asking, check_asking
    from clipmill.words.engines.kinds import prompts_of, refuse_questions
    from clipmill.words.examples import read_examples
    from clipmill.words.loading import find_generator
    from clipmill.words.plan import find_source, make_plan

    check_device(cluster)
    check_asking(settings)
    examples, examples_sha256 = read_examples(settings.examples) if settings.examples else ((), None)
    reporter.message("ask" if isinstance(settings, AskSettings) else "caption", f"reading what is in {settings.input}")
    source = find_source(settings, inputs)
    found = find_generator(settings)
    if found.streams:
        check_vllm(cluster)
    if isinstance(settings, AskSettings):
        refuse_questions(found.kind, found.identity.name)
    asking = Asking.of(settings, prompts_of(found.kind))
    plan = make_plan(settings, source, found.identity, asking, examples_sha256, removed)

    def work(work: Work) -> TextsManifest:
        from clipmill.engine.words import write_words
        from clipmill.words.names import caution

        if told := caution(plan.identity.name, plan.inputs, plan.name, settings.input):
            _LOG.warning(told)
        if found.streams:
            from clipmill.engine.words_on_vllm import write_words_on_vllm

            return write_words_on_vllm(plan, found, examples, cluster, reporter, work)
        return write_words(plan, found, examples, cluster, reporter, work)

    return plan.run(work)


def recaption_stage(
    settings: RecaptionSettings,
    cluster: ClusterSettings,
    reporter: Reporter,
    removed: Takedown = NOTHING,
    inputs: list[InputFile] | None = None,
) -> Made[CaptionedManifest]:
    """Keeps of captions and of texts about the same pictures those that are true; nothing of what was ``removed``.
    ``inputs`` are the files of the input, where they are known."""
    from clipmill.engine.device import check_device
    from clipmill.words.capfilt.plan import find_pooling, make_plan

    check_device(cluster)
    reporter.message("recaption", f"reading what is in {settings.input}")
    pooling = find_pooling(settings, inputs)
    from clipmill.words.scorers.finding import find_scorer

    found = find_scorer(settings)
    plan = make_plan(settings, pooling, found.identity, removed)

    def work(work: Work) -> CaptionedManifest:
        from clipmill.engine.recaption import filter_captions

        return filter_captions(plan, found, cluster, reporter, work)

    return plan.run(work)


def evaluate_texts_stage(settings: TextEvaluationSettings, reporter: Reporter) -> Made[Report]:
    """Measures texts about pictures, and writes a report."""
    from clipmill.evaluation.texts.cosines import Fit
    from clipmill.report.texts.evaluation import evaluate_texts, make_text_evaluation

    reporter.message("evaluate", f"opening {settings.texts}")
    load = lru_cache(maxsize=1)(partial(load_here, settings.model_settings, reporter))

    def scorer() -> Scorer:
        from clipmill.words.scorers.clip import ClipScorer

        return ClipScorer(load())

    def fetch(path: str, source: str) -> bytes:
        from clipmill.words.steps import load_beside

        return load_beside(settings.allow_outside or (), path, source)

    evaluation = make_text_evaluation(settings, lambda: load().identity)
    return evaluate_texts(
        evaluation, Fit(scorer, lambda texts: load().encode_texts(texts), fetch, settings.max_image_pixels), reporter
    )
