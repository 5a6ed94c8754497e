"""Three kills at random instants: of the driver, of a worker and of a whole node. `make chaos` does more."""

from pathlib import Path

import pytest

from chaos import TARGETS, wreak


@pytest.mark.long
@pytest.mark.cluster
def test_kills_at_random_instants_lose_and_repeat_nothing(tmp_path: Path) -> None:
    _, rounds = wreak(kills=3, rows=2000, scratch=tmp_path, seed=1)
    assert [one.differences for one in rounds] == [[] for _ in rounds]
    struck = {kill.split()[0] for one in rounds for kill in one.kills}
    assert struck == set(TARGETS)
