"""Reports are called by what tells their places apart."""

import pytest

from clipmill.report.comparison.names import short_names


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["/r/b32", "/r/l14"], ["b32", "l14"]),
        (["/runs/monday/report", "/runs/tuesday/report/"], ["monday", "tuesday"]),
        (["s3://b/x/1/report", "s3://b/x/2/report"], ["1", "2"]),
        (["/a/one", "/b/one", "/b/two"], ["one (1)", "one (2)", "two"]),
    ],
)
def test_short_names(places: list[str], names: list[str]) -> None:
    assert short_names(places) == names
