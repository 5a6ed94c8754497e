"""Everything that is measured of texts, as figures and as a value for each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import Figure, metric
from clipmill.evaluation.progress import Absence
from clipmill.evaluation.statistics.bootstrap import draw_outcomes, percentile_interval, share_intervals
from clipmill.evaluation.statistics.clustered import clustered_mean
from clipmill.evaluation.texts.answers import normalised, right_answer, vqa_accuracy, yes_or_no
from clipmill.evaluation.texts.cider import Rarity
from clipmill.evaluation.texts.clip_score import clip_score, ref_clip_score
from clipmill.evaluation.texts.corpus import Corpus
from clipmill.evaluation.texts.cosines import Cosines
from clipmill.evaluation.texts.overlap import ORDERS, bleu, bleu_counts, ngrams, rouge_l


@dataclass(frozen=True)
class Resampling:
    """How many times pictures are drawn for an interval, and from which seed."""

    samples: int
    seed: int


@dataclass
class TextQuality:
    """``texts`` and ``answers`` are figures; ``values`` are those of each text by what was measured, float64 (t,), NaN where it
    was not."""

    texts: list[Figure] = field(default_factory=list)
    answers: list[Figure] = field(default_factory=list)
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    absences: list[Absence] = field(default_factory=list)


def measure_texts(corpus: Corpus, cosines: Cosines | None, model: str, resampling: Resampling) -> TextQuality:
    """All that there is to measure. ``cosines`` are None where no model was asked, which is called ``model``."""
    made = TextQuality()
    with_references = corpus.places_with(corpus.references)
    if with_references:
        _overlap(corpus, with_references, resampling, made)
    else:
        made.absences.append(Absence("Overlap with references", "no row with a text has a reference"))
    if cosines is not None:
        _fit(corpus, cosines, model, made)
    if corpus.texts:
        made.texts += _words(corpus)
    with_answers = corpus.places_with(corpus.answers)
    if with_answers:
        _answers(corpus, with_answers, resampling, made)
    else:
        made.absences.append(Absence("Right answers", "no row with a text has a right answer (--answer-column)"))
    return made


def _mean(key: str, values: NDArray[np.float64], rows: NDArray[np.int64], **words: object) -> Figure:
    known = np.isfinite(values)
    interval = clustered_mean(values[known], rows[known])
    assert interval is not None  # there is a text
    return metric(key, **words).figure(interval)


def _share(key: str, values: NDArray[np.float64], rows: NDArray[np.int64], **words: object) -> Figure:
    return metric(key, **words).figure(share_intervals(values[:, None].astype(np.float64), rows)[0])


def _spread(corpus: Corpus, places: Sequence[int], values: Sequence[float]) -> NDArray[np.float64]:
    found = np.full(len(corpus.texts), np.nan)
    found[list(places)] = values
    return found


def _overlap(corpus: Corpus, places: Sequence[int], resampling: Resampling, made: TextQuality) -> None:
    known = corpus.reference_words
    rarity = Rarity.of(known.values())
    pairs = [(corpus.words[at], known[int(corpus.rows[at])]) for at in places]
    made.values["CIDEr-D"] = _spread(corpus, places, [rarity.score(*pair) for pair in pairs])
    made.values["ROUGE-L"] = _spread(corpus, places, [rouge_l(*pair) for pair in pairs])
    rows = corpus.rows[list(places)]
    counts = np.stack([bleu_counts(*pair) for pair in pairs])
    of_pictures, image_of = np.unique(rows, return_inverse=True)
    sums = np.zeros((len(of_pictures), counts.shape[1]))
    np.add.at(sums, image_of, counts)
    drawn = [bleu(times @ sums) for times in draw_outcomes(np.ones(len(sums)), resampling.samples, resampling.seed)]
    resampled = np.concatenate([*drawn, np.empty((0, ORDERS))])
    values = bleu(sums.sum(axis=0))
    made.texts.append(_mean("texts.cider_d", made.values["CIDEr-D"], corpus.rows))
    for n in range(ORDERS):
        interval = _percentiles(float(values[n]), resampled[:, n], len(places))
        made.texts.append(metric(f"texts.bleu_{n + 1}").figure(interval, len(places)))
    made.texts.append(_mean("texts.rouge_l", made.values["ROUGE-L"], corpus.rows))


def _percentiles(value: float, resampled: NDArray[np.float64], n: int) -> Interval | float:
    """Without resamples, or with some that have no value, only the value."""
    if not len(resampled) or not np.isfinite(resampled).all():
        return value
    return percentile_interval(value, resampled, n)


def _fit(corpus: Corpus, cosines: Cosines, model: str, made: TextQuality) -> None:
    if not np.isfinite(cosines.picture).any():
        made.absences.append(Absence("Fit to pictures", "no picture with a text could be read"))
        return
    picture, reference = cosines.picture.astype(np.float64), cosines.reference.astype(np.float64)
    made.values["CLIPScore"] = clip_score(picture)
    made.texts.append(_mean("texts.clip_score", made.values["CLIPScore"], corpus.rows, model=model))
    both = np.where(np.isfinite(reference), ref_clip_score(picture, np.nan_to_num(reference)), np.nan)
    if np.isfinite(both).any():
        made.texts.append(_mean("texts.ref_clip_score", both, corpus.rows, model=model))
    made.texts.append(_share("texts.cut", cosines.cut.astype(np.float64), corpus.rows, model=model))


def _words(corpus: Corpus) -> list[Figure]:
    pairs = [ngrams(words, 2) for words in corpus.words]
    total = sum(found.total() for found in pairs)
    different = len(set().union(*pairs))
    lengths = np.array([len(words) for words in corpus.words], np.float64)
    repeated = 1 - len(set(corpus.words)) / len(corpus.words)
    return [
        *([metric("texts.distinct_2").figure(different / total, total)] if total else []),
        metric("texts.repeated").figure(repeated, len(corpus.words)),
        _mean("texts.words", lengths, corpus.rows),
    ]


def _answers(corpus: Corpus, places: Sequence[int], resampling: Resampling, made: TextQuality) -> None:
    rows = corpus.rows[list(places)]
    said = [normalised(corpus.texts[at]) for at in places]
    given = [[normalised(one) for one in corpus.answers[int(row)]] for row in rows]
    right = np.array([one == right_answer(people) for one, people in zip(said, given, strict=True)], np.float64)
    several = np.array([len(people) > 1 for people in given])
    if several.any():
        scores = [
            vqa_accuracy(one, people) if len(people) > 1 else np.nan for one, people in zip(said, given, strict=True)
        ]
        accuracy = np.array(scores)
        made.answers.append(_share("answers.vqa_accuracy", accuracy[several], rows[several]))
        made.values["VQA accuracy"] = _spread(corpus, places, scores)
    else:
        made.absences.append(Absence("VQA accuracy", "each question was answered by one person only"))
    made.answers.append(_share("answers.exact_match", right, rows))
    made.values["exact match"] = _spread(corpus, places, right.tolist())
    truth = np.array([right_answer(people) for people in given])
    if np.isin(truth, ("yes", "no")).all():
        found = np.array([yes_or_no(one) for one in said])
        made.answers += _yes_no(found, truth, rows, resampling)


def _yes_no(
    said: NDArray[np.str_], truth: NDArray[np.str_], rows: NDArray[np.int64], resampling: Resampling
) -> list[Figure]:
    yes, true = said == "yes", truth == "yes"
    figures = [_share("answers.yes_no_accuracy", (said == truth).astype(np.float64), rows)]
    if yes.any():
        figures.append(_share("answers.yes_precision", true[yes].astype(np.float64), rows[yes]))
    if true.any():
        figures.append(_share("answers.yes_recall", yes[true].astype(np.float64), rows[true]))
    if yes.any() or true.any():
        counts = np.stack([yes & true, yes, true], axis=1).astype(np.float64)
        _, image_of = np.unique(rows, return_inverse=True)
        sums = np.zeros((int(image_of.max()) + 1, 3))
        np.add.at(sums, image_of, counts)
        times = draw_outcomes(np.ones(len(sums)), resampling.samples, resampling.seed)
        drawn = np.concatenate([*(one @ sums for one in times), np.empty((0, 3))])
        interval = _percentiles(float(_f1(sums.sum(axis=0))), _f1(drawn), len(rows))
        figures.append(metric("answers.yes_f1").figure(interval, len(rows)))
    return [*figures, _share("answers.yes_rate", yes.astype(np.float64), rows)]


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 · hits / (said yes + should be yes), of (…, 3) numbers of these."""
    total = counts[..., 1] + counts[..., 2]
    result: NDArray[np.float64] = 2 * counts[..., 0] / np.where(total > 0, total, np.nan)
    return result
