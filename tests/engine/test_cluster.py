"""What a failure in a worker is told as."""

import pytest
import ray

from clipmill.core.errors import RunFailed
from clipmill.engine.cluster import CONTINUE, cause_of


@pytest.mark.parametrize("error", [ray.exceptions.ActorDiedError(), ray.exceptions.WorkerCrashedError()])
def test_a_worker_that_died_is_told_with_what_is_to_be_done(error: Exception) -> None:
    assert str(cause_of(error, "embedding")).endswith(CONTINUE)
    told = str(cause_of(error, "searching", "nothing was written"))
    assert told.startswith("searching failed: a worker process died again and again")
    assert told.endswith("; nothing was written")


def test_an_error_of_ours_is_told_as_it_is() -> None:
    inner = RunFailed("a.parquet was altered")
    assert str(cause_of(ray.exceptions.RayTaskError("f", "trace", inner), "embedding")) == "a.parquet was altered"


def test_the_word_traceback_is_not_taken_for_an_error() -> None:
    """Ray says so of arguments that a worker cannot unpickle."""
    text = "System error: No module named 'x'\ntraceback: Traceback (most recent call last):\n  File \"a.py\", line 1\n"
    told = str(cause_of(ray.exceptions.RaySystemError("No module named 'x'", text), "embedding"))
    assert "Traceback" not in told
    assert "No module named 'x'" in told
    known = text + "ModuleNotFoundError: No module named 'x'\n"
    assert "(ModuleNotFoundError: No module named 'x')" in str(cause_of(RuntimeError(known), "embedding"))


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert "(KeyError)" in str(cause_of(KeyError(), "embedding"))
