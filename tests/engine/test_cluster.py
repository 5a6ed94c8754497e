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
