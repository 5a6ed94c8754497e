"""A stage that only names its output, its pieces and its differences gets the whole lifecycle for nothing."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from clipmill import storage
from clipmill.core.errors import Occupied, OutputDiffers, RunFailed, UserError
from clipmill.core.settings import OutputSettings
from clipmill.stage.kinds import Kind
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Made, Stage, Work, configuration_differences
from clipmill.stage.status import work_towards
from clipmill.storage import Location
from clipmill.storage.lease import Lease
from clipmill.storage.s3 import client as s3_client
from clipmill.storage.s3 import publish
from dying import dying
from faulty_s3 import BUCKET, FaultyS3

PIECES = 4
MARK = ".out.staging.owner.json"
"""Says who is at work on an output; of one that died nobody minds it."""


class MillSettings(OutputSettings):
    CONTENT: ClassVar[tuple[str, ...]] = ("grain", "times")

    grain: str = "rye"
    times: int = 2


class Flour(BaseModel):
    configuration: dict[str, Any]
    bags: list[str]
    starts: int


def read_flour(output: storage.Location) -> Flour:
    return Flour.model_validate_json(storage.read_bytes(output / "flour.json"))


@dataclass(frozen=True)
class Mill(Stage[Flour]):
    """Grinds so many bags, each of which is a piece."""

    name = "mill"
    kind = Kind("flour", "flour.json", read_flour, owns=lambda name: name == "flour.json" or name.startswith("bag-"))
    settings: MillSettings

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"stage": self.name, "settings": self.settings.content()}

    def differences(self, found: Flour) -> list[str]:
        return configuration_differences(found.configuration, self.settings.content())

    @property
    def outline(self) -> Outline:
        return Outline(stage=self.name, steps=(Step(doing="grinding", total=PIECES, files={"dataset/bag-*": 1}),))


class SmallMill(Mill):
    """One that begins anew each time."""

    continues = False


class Miller:
    """Grinds what is not ground yet. ``before`` is called with the number of each bag, and may end it all."""

    def __init__(self, output: Path | str) -> None:
        self.output = str(output)
        self.ground: list[int] = []

    def grind(
        self,
        before: Callable[[int, Work], object] = lambda number, work: None,
        mill: type[Mill] = Mill,
        **settings: Any,
    ) -> Made[Flour]:
        stage = mill(MillSettings(output=self.output, **settings))

        def work(work: Work) -> Flour:
            start = work.start()
            bags = [f"bag-{number}" for number in range(PIECES)]
            for number, bag in enumerate(bags):
                if not storage.exists(work.dataset / bag):
                    before(number, work)
                    storage.write_bytes(work.dataset / bag, stage.settings.grain.encode() * stage.settings.times)
                    self.ground.append(number)
            return Flour(configuration=stage.settings.content(), bags=bags, starts=1 + len(start.earlier))

        return stage.run(work)


@pytest.fixture
def miller(tmp_path: Path) -> Miller:
    return Miller(tmp_path / "out")


def stopping_at(stop: int, error: BaseException) -> Callable[[int, Work], None]:
    def before(number: int, work: Work) -> None:
        if number == stop:
            raise error

    return before


def assert_whole(output: Path, grain: str = "rye") -> None:
    """The flour of this grain is there, and nothing else in it or beside it."""
    assert {path.name for path in output.iterdir()} == {"flour.json", *(f"bag-{number}" for number in range(PIECES))}
    assert {path.read_text() for path in output.glob("bag-*")} == {grain * 2}
    assert {path.name for path in output.parent.iterdir() if not path.name.startswith(MARK)} == {output.name}


def test_the_same_again_is_already_complete(miller: Miller, tmp_path: Path) -> None:
    first = miller.grind()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = miller.grind()
    assert (first.already, again.already, again.manifest) == (False, True, first.manifest)
    assert miller.ground == [0, 1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == written
    assert_whole(tmp_path / "out")


def test_other_settings_are_refused_and_named(miller: Miller, tmp_path: Path) -> None:
    miller.grind()
    with pytest.raises(OutputDiffers, match=r"is already complete, .*: times: was 2, now 3; .*--overwrite"):
        miller.grind(times=3)
    assert_whole(tmp_path / "out")


def test_another_grain_replaces_it_only_when_asked_and_once_it_is_whole(miller: Miller, tmp_path: Path) -> None:
    miller.grind()
    miller.grind(lambda number, work: assert_whole_beside_staging(tmp_path / "out"), grain="oat", overwrite=True)
    assert_whole(tmp_path / "out", "oat")


def assert_whole_beside_staging(output: Path) -> None:
    assert {path.read_text() for path in output.glob("bag-*")} == {"rye" * 2}
    assert len(list(output.glob("bag-*"))) == PIECES


def test_overwriting_grinds_the_same_again_too(miller: Miller, tmp_path: Path) -> None:
    miller.grind()
    assert not miller.grind(overwrite=True).already
    assert miller.ground == [0, 1, 2, 3] * 2
    assert_whole(tmp_path / "out")


def test_a_stopped_run_continues_and_does_no_piece_twice(miller: Miller, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        miller.grind(stopping_at(2, KeyboardInterrupt()))
    assert not (tmp_path / "out").exists()
    assert miller.grind().manifest.starts == 2
    assert miller.ground == [0, 1, 2, 3]
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize("replacing", [False, True])
def test_it_may_be_killed_at_any_instant(replacing: bool, tmp_path: Path) -> None:
    """What was published when it died is complete for the next start, whose leftovers go."""
    for instant in itertools.count():
        output = tmp_path / str(instant) / "out"
        miller = Miller(output)
        if replacing:
            miller.grind(grain="oat")
        with dying(lambda asked, instant=instant: asked == instant) as died:
            miller.grind(overwrite=replacing)
        if not died():
            break
        staged = list((output.parent / ".out.staging").glob("*/dataset/bag-?"))
        before = {int(path.name[-1]) for path in staged if path.read_text() == "rye" * 2}
        miller.ground.clear()
        again = miller.grind(overwrite=replacing)
        assert miller.ground == ([] if again.already else sorted(set(range(PIECES)) - before))
        assert_whole(output)
        shutil.rmtree(output.parent)
    assert instant > 15


def test_unfinished_work_of_other_settings_is_refused_and_dropped_when_asked(miller: Miller, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        miller.grind(stopping_at(2, KeyboardInterrupt()))
    with pytest.raises(
        OutputDiffers, match=r"an unfinished run .* other settings \(grain: rye, now oat\); .*--overwrite"
    ):
        miller.grind(grain="oat")
    assert miller.ground == [0, 1]
    miller.grind(grain="oat", overwrite=True)
    assert miller.ground == [0, 1, 0, 1, 2, 3]
    assert_whole(tmp_path / "out", "oat")


def test_of_two_at_once_one_works_and_the_other_is_refused(miller: Miller, tmp_path: Path) -> None:
    other = Miller(tmp_path / "out")

    def meanwhile(number: int, work: Work) -> None:
        for overwrite in (False, True):
            with pytest.raises(Occupied, match=r"another run .* is working towards the same output"):
                other.grind(overwrite=overwrite)

    assert not miller.grind(meanwhile).already
    assert other.ground == []
    assert other.grind().already
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize("mill", [Mill, SmallMill])
def test_a_run_whose_work_was_taken_over_publishes_nothing_and_leaves_the_others_work(
    mill: type[Mill], miller: Miller, tmp_path: Path
) -> None:
    def taken_over(number: int, work: Work) -> None:
        if number == 3:
            storage.write_bytes(storage.resolve(tmp_path / MARK), b'{"host": "elsewhere"}')
            with pytest.raises(RunFailed):
                work.lease.check()

    with pytest.raises(RunFailed, match="another run took over"):
        miller.grind(taken_over, mill)
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / ".out.staging").glob("*/dataset/bag-*"))) == PIECES


def test_a_mistake_before_any_piece_leaves_nothing_behind(miller: Miller, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no water"):
        miller.grind(stopping_at(0, UserError("no water")))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no water"):
        miller.grind(stopping_at(1, UserError("no water")))
    assert miller.grind().manifest.starts == 2
    assert miller.ground == [0, 1, 2, 3]


def test_what_does_not_continue_leaves_nothing_behind_when_it_fails(miller: Miller, tmp_path: Path) -> None:
    for error in (OSError("disk full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            miller.grind(stopping_at(2, error), SmallMill)
        assert list(tmp_path.iterdir()) == []
    assert not miller.grind(mill=SmallMill).already
    assert_whole(tmp_path / "out")


def test_a_failed_attempt_leaves_the_old_flour(miller: Miller, tmp_path: Path) -> None:
    miller.grind()
    with pytest.raises(OSError, match="disk full"):
        miller.grind(stopping_at(2, OSError("disk full")), SmallMill, grain="oat", overwrite=True)
    assert_whole(tmp_path / "out")


def test_status_tells_how_far_it_is_and_who_is_at_it(miller: Miller, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None, str, bool]] = []

    def look() -> None:
        found = work_towards(storage.resolve(tmp_path / "out"))
        told.extend((work.stage, work.done, work.planned, work.doing, work.running) for work in found)

    def before(number: int, work: Work) -> None:
        look()
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        miller.grind(before)
    look()
    assert told == [
        ("mill", 0, 4, "grinding: 0 of 4", True),
        ("mill", 1, 4, "grinding: 1 of 4", True),
        ("mill", 2, 4, "grinding: 2 of 4", True),
        ("mill", 2, 4, "grinding: 2 of 4", False),
    ]
    miller.grind()
    assert work_towards(storage.resolve(tmp_path / "out")) == []


def test_files_of_others_are_never_replaced(miller: Miller, tmp_path: Path) -> None:
    miller.grind()
    (tmp_path / "out" / "thesis.doc").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"thesis\.doc"):
            miller.grind(grain="oat", overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.doc").read_text() == "precious"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with FaultyS3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3_client.forget()
        yield f"s3://{BUCKET}"
        s3_client.forget()


def test_a_publication_that_was_killed_is_finished_without_a_piece_done_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    miller = Miller(f"{bucket}/out")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    miller.grind()
    with monkeypatch.context() as patch:
        patch.setattr(publish, "put_if", killed)
        with pytest.raises(KeyboardInterrupt):
            miller.grind(grain="oat", overwrite=True)
    assert storage.read_bytes(storage.resolve(f"{bucket}/out/bag-0")) == b"oatoat"
    with pytest.raises(OutputDiffers, match="an unfinished run towards"):
        miller.grind()
    miller.ground.clear()
    assert not miller.grind(grain="oat").already
    assert miller.ground == []
    assert miller.grind(grain="oat").already
    assert [info.base_name for info in storage.list_files(storage.resolve(f"{bucket}/out"))] == [
        *(f"bag-{number}" for number in range(PIECES)),
        "flour.json",
    ]


def test_work_that_another_run_left_while_one_waited_for_the_lease_is_refused_and_stays(
    miller: Miller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the lease saw nothing: the other run began, and was killed, after it."""
    acquire = Lease.acquire

    @contextmanager
    def late(staging: Location) -> Iterator[Lease]:
        monkeypatch.setattr(Lease, "acquire", acquire)
        with pytest.raises(RunFailed):
            Miller(tmp_path / "out").grind(stopping_at(2, RunFailed("killed")), grain="oat")
        with acquire(staging) as lease:
            yield lease

    monkeypatch.setattr(Lease, "acquire", late)
    with pytest.raises(OutputDiffers, match="an unfinished run towards"):
        miller.grind()
    assert miller.ground == []
    other = Miller(tmp_path / "out")
    other.grind(grain="oat")
    assert other.ground == [2, 3]
    assert_whole(tmp_path / "out", "oat")
