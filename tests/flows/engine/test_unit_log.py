"""What units log comes out where they were asked for, and is kept."""

import contextlib
import functools
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from specdyn.flows.engine.executor import InlineExecutor
from specdyn.flows.engine.unit_log import LARGEST, kept_log, opened, recorded
from specdyn.flows.resources import Resources

log = logging.getLogger("specdyn.testing")


def talk(lines: int) -> int:
    for line in range(lines):
        log.info("line %d", line)
    log.debug("not this")
    logging.getLogger("elsewhere").warning("nor this")
    return lines


def fail() -> None:
    log.warning("it is getting warm")
    raise ValueError("too hot")


def test_lines_come_with_the_value() -> None:
    ended = recorded(talk, 2)
    assert ended.value == 2
    assert [line.split(" INFO ")[1] for line in ended.lines] == ["line 0", "line 1"]
    assert pickle.loads(pickle.dumps(ended)) == ended


def test_a_long_log_keeps_its_end() -> None:
    lines = recorded(talk, LARGEST + 5).lines
    assert len(lines) == LARGEST
    assert lines[-1].endswith(f"line {LARGEST + 4}")


def test_an_error_carries_the_lines_through_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too hot") as raised:
        recorded(fail)
    travelled = pickle.loads(pickle.dumps(raised.value))

    def unit() -> None:
        raise travelled

    with pytest.raises(ValueError, match="too hot"), kept_log(str(tmp_path), "train"):
        opened(unit)  # type: ignore[arg-type]
    (file,) = tmp_path.iterdir()
    first, second = file.read_text().splitlines()
    assert first.endswith("WARNING it is getting warm")
    assert second.endswith("ERROR ValueError: too hot")


def test_the_log_of_a_stage_has_all_its_units(tmp_path: Path) -> None:
    with kept_log(str(tmp_path), "analyse"):
        assert InlineExecutor(Resources()).run(talk, 1) == 1
        assert opened(functools.partial(recorded, talk, 2)) == 2
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("analyse-") and file.suffix == ".log"
    assert [line.rsplit(" ", 1)[1] for line in file.read_text().splitlines()] == ["0", "0", "1"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_log_that_cannot_be_kept_hides_no_failure_and_is_none(
    fails: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    expected = pytest.raises(ValueError, match="too hot") if fails else contextlib.nullcontext()
    with expected, kept_log(str(file), "train"):
        opened(functools.partial(recorded, talk, 1))
        monkeypatch.setattr(logging.getLogger("specdyn"), "propagate", True)
        if fails:
            raise ValueError("too hot")
    (line,) = {record.getMessage() for record in caplog.records if record.name == "specdyn.log"}
    assert line.startswith(f"a log is not kept: {file}/train-")


def test_silence_keeps_nothing(tmp_path: Path) -> None:
    with kept_log(str(tmp_path), "train"):
        assert InlineExecutor(Resources()).run(talk, 0) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_imports_has_neither_prefect_nor_the_experiments() -> None:
    found = "[n for n in sys.modules if n.split('.')[0] == 'prefect' or 'experiments.' in n]"
    told = f"import sys, specdyn.flows.engine.executor; print({found})"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "[]\n"
