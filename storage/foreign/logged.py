"""Reads metrics that training programs logged by step: JSON lines, CSV, the Hugging Face Trainer's history."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from specdyn.storage.access import objects
from specdyn.storage.access.listing import listing
from specdyn.storage.checkpoints import DamagedCheckpoint
from specdyn.storage.foreign.beside import folders_beside
from specdyn.storage.foreign.found import Found
from specdyn.storage.foreign.pickled import as_object

LINES, TABLE, HISTORY = (".jsonl", ".ndjson"), ".csv", "trainer_state.json"
FILE, FOLDER, LIGHTNING = "metrics.jsonl", "metrics", "metrics.csv"
"""File names to look for next to checkpoints."""
COUNTERS: Mapping[str, Sequence[str]] = {
    "steps": (
        *("step", "global_step", "train/global_step", "trainer/global_step"),
        *("iteration", "iter", "_step"),
    ),
    "epochs": ("epoch", "train/epoch"),
    "tokens": ("tokens", "num_tokens", "num_input_tokens_seen", "tokens_seen"),
}
"""Names of step, epoch and token counters, lower case; W&B's own `_step` last, as it counts calls."""
NO_METRICS = {"_runtime", "_timestamp", "_step", "wall time", "wall_time", "time", "timestamp", "created_at"}
BETWEEN = " - "
"""W&B's separator between a run's name and a metric's."""
OF_RANGES = ("__MIN", "__MAX")
"""Suffixes of W&B's columns with the range of another column."""
OF_THE_END = "train_runtime"
"""A key of the Trainer's final record, which holds means over the whole training."""
OF_TIMING = ("_runtime", "_per_second", "_compilation_time", "total_flos")


class Place(NamedTuple):
    """A position in a log: a line of a file, or a record in its list."""

    url: str
    number: int
    what: str = "line"

    def __str__(self) -> str:
        return f"{self.url}, {self.what} {self.number}"


Record = tuple[Place, dict[str, Any]]


class Noted(NamedTuple):
    """One logged value."""

    at: float
    value: float
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The logged metrics of a series: by name, ascending steps with their values."""

    files: tuple[str, ...] = ()
    values: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    """Notes on what was skipped, and which of several values counts."""


def find_log(found: Found) -> Log:
    """The metrics logged next to a series; empty if there are none.

    Reads the first that exists of `metrics.jsonl`, `metrics/*.jsonl`, the Trainer's history in the last checkpoint
    and Lightning's `metrics.csv`; the notes name the others. Unreadable files are noted, not raised.
    """
    choices: list[tuple[str, ...]] = []
    last = found.checkpoints[-1].folder
    there = {folder: listing(folder) for folder in folders_beside(found)}
    for folder, listed in there.items():
        if FILE in listed:
            choices.append((f"{folder}/{FILE}",))
        if FOLDER in listed and (inside := _logs_in(f"{folder}/{FOLDER}")):
            choices.append(inside)
    if HISTORY in (there[last] if last in there else listing(last)):
        choices.append((f"{last}/{HISTORY}",))
    choices += [(f"{folder}/{LIGHTNING}",) for folder, listed in there.items() if LIGHTNING in listed]
    if not choices:
        return Log()
    try:
        log = read_log(choices[0], found.unit, found.url.rsplit("/", 1)[-1])
    except ValueError as error:
        return Log(files=choices[0], told=(f"metrics are not read: {error}",))
    others = [f"metrics in {urls[0]} are ignored, as {log.files[0]} exists" for urls in choices[1:] if log.values]
    return Log(files=log.files, values=log.values, told=(*log.told, *others))


def given_log(url: str, found: Found, alone: bool = True) -> Log:
    """The metrics in a file or in the files of a folder; unless the series is `alone`, only columns with its name.

    ValueError if there is nothing to read, or if it is unclear which run of a file is meant.
    """
    inside = _logs_in(url)
    urls = inside or (url,)
    if not inside and not url.endswith((*LINES, TABLE, ".json")):
        raise ValueError(f"metrics={url!r} is not allowed: expected a file {_kinds()}, or a folder of such files")
    log = read_log(urls, found.unit, found.url.rsplit("/", 1)[-1], alone)
    if not log.values and found.unit in COUNTERS:
        raise ValueError(f"{url}: no metrics: expected numbers by {_expected(found.unit)}")
    return log


def _logs_in(folder: str) -> tuple[str, ...]:
    named = (name for name, item in listing(folder).items() if name.endswith((*LINES, TABLE)) and not item.folder)
    return tuple(f"{folder}/{name}" for name in named)


def _kinds() -> str:
    return f"of JSON lines ({', '.join(LINES)}), {TABLE}, or {HISTORY}"


def _expected(unit: str) -> str:
    return f"one of {', '.join(COUNTERS[unit])}" if unit in COUNTERS else "steps, epochs or tokens"


def read_log(urls: Sequence[str], unit: str, run: str = "", alone: bool = True) -> Log:
    """Read the metrics that are counted in this unit from files, in order.

    From files with columns of several runs, as exported by W&B, only those of `run`.

    If the counter falls, the run was resumed, and the earlier values from there on are dropped; of two values at the
    same count the later one is kept. ValueError names the file and line of anything unreadable.
    """
    if unit not in COUNTERS:
        return Log(files=tuple(urls), told=(f"metrics are not read: the checkpoints count {unit}, not steps",))
    noted: dict[str, list[Noted]] = {}
    texts: dict[str, Place] = {}
    told: list[str] = []
    for url in urls:
        records = _of_run(_records(url, told), url, run, alone)
        counter = _counter(records, unit, url)
        labels: dict[str, str] = {}
        for place, record in records:
            count = _count(record, counter, unit, place)
            for name, value in record.items():
                if name not in labels:
                    labels[name] = _named(name, url, counter, unit)
                if not (label := labels[name]) or value is None or value == "":
                    continue
                if (number := _number(value)) is None:
                    texts.setdefault(label, place)
                else:
                    noted.setdefault(label, []).append(Noted(count, number, place))
    for name in sorted(texts.keys() & noted.keys()):
        raise ValueError(f"{texts[name]}: {name} is not a number here, but is one in {noted[name][0].place}")
    if texts:
        told.append(f"skipped, because they are not numbers: {', '.join(sorted(texts))}")
    resumed: dict[str, list[str]] = {}
    values = {name: _in_order(name, every, resumed) for name, every in noted.items()}
    told += [f"{', '.join(names)}: {what}" for what, names in resumed.items()]
    return Log(files=tuple(urls), values=values, told=tuple(told))


def _records(url: str, told: list[str]) -> list[Record]:
    """The records of a file with their positions."""
    try:
        data = objects.read(url)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{url}: no such file of metrics") from None
    except UnicodeDecodeError:
        raise ValueError(f"{url}: not a text file of metrics: expected {_kinds()}") from None
    if url.endswith(TABLE):
        return list(_of_table(url, text))
    if url.endswith(LINES):
        return list(_of_lines(url, text, told))
    return list(_of_history(url, data))


def _of_run(records: list[Record], url: str, run: str, alone: bool) -> list[Record]:
    """The records without columns of other runs, and without the run's name in column names."""
    names = dict.fromkeys(name for _, record in records for name in record) if url.endswith(TABLE) else {}
    runs = dict.fromkeys(before for name in names if (before := name.rpartition(BETWEEN)[0]))
    if len(runs) < 2 and alone:
        return records
    if run not in runs:
        there = f"columns of {', '.join(runs)}" if runs else "no columns that say which run they belong to"
        raise ValueError(
            f"{url} has {there}, so it is unclear which belong to {run}: expected one run, or columns called "
            f"'{run}{BETWEEN}METRIC'; or put a {FILE} next to the checkpoints"
        )
    chosen = [name for name in names if name.rpartition(BETWEEN)[0] in ("", run)]
    return [(place, {name: record[name] for name in chosen if name in record}) for place, record in records]


def _of_lines(url: str, text: str, told: list[str]) -> Iterator[Record]:
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = Place(url, number)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):  # no line end: it is still being written
                told.append(f"{place} is incomplete and skipped")
                return
            raise ValueError(f"{place}: not JSON: expected an object a line, found {line[:60]!r}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{place}: expected a JSON object, found {line[:60]!r}")
        yield place, record


def _of_table(url: str, text: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text))
    header = next(reader, None)
    if not header:
        raise ValueError(f"{Place(url, 1)}: the file is empty: expected a line with the names of columns")
    names = [name.strip() for name in header]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{Place(url, 1)}: two columns are called {twice[0]!r}")
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        place = Place(url, reader.line_num)
        if len(row) != len(names):
            raise ValueError(f"{place}: expected {len(names)} columns as in line 1, found {len(row)}")
        yield place, dict(zip(names, (cell.strip() for cell in row), strict=True))


def _of_history(url: str, data: bytes) -> Iterator[Record]:
    """The Trainer's log, without times and means over the whole training."""
    try:
        history = as_object(url, data).get("log_history")
    except DamagedCheckpoint as error:
        raise ValueError(str(error)) from None
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        raise ValueError(f"{url}: no list of records called log_history: expected {_kinds()}")
    for number, record in enumerate(history, start=1):
        if OF_THE_END not in record:
            yield Place(url, number, "record"), {n: v for n, v in record.items() if not n.endswith(OF_TIMING)}


def _counter(records: Sequence[Record], unit: str, url: str) -> str:
    """The name of the counter in a file's records; ValueError if there is none."""
    seen = {name.lower(): name for _, record in records for name in record}
    for name in COUNTERS[unit]:
        if name in seen:
            return seen[name]
    if not records:
        return ""
    there = ", ".join(list(seen.values())[:8])
    raise ValueError(
        f"{records[0][0]}: no count of {unit} to match metrics to checkpoints: expected {_expected(unit)}, "
        f"found {there}"
    )


def _count(record: Mapping[str, Any], counter: str, unit: str, place: Place) -> float:
    """The count of a record; an epoch may be fractional."""
    value = record.get(counter)
    number = _number(value) if counter in record else None
    if number is None or not 0 <= number < math.inf or (unit != "epochs" and number != int(number)):
        what = f"{counter}={value!r} is not allowed" if counter in record else f"no {counter}"
        raise ValueError(f"{place}: {what}: expected a {'' if unit == 'epochs' else 'whole '}number of 0 or more")
    return number


def _number(value: Any) -> float | None:
    """A number, or a text parsed as one; None for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
    return None


def _named(name: str, url: str, counter: str, unit: str) -> str:
    """A metric's name, without the run that W&B puts before it; empty for counters, times and the like.

    A column called Value is named after its file.
    """
    if name == counter or name.lower() in (*NO_METRICS, *COUNTERS[unit]) or name.endswith(OF_RANGES):
        return ""
    if name.lower() == "value":  # TensorBoard exports one file per metric
        stem = url.rpartition("/")[2].removesuffix(TABLE)
        return stem.rpartition("-tag-")[2] or stem
    return name.rpartition(BETWEEN)[2]


def _in_order(name: str, every: Sequence[Noted], told: dict[str, list[str]]) -> dict[float, float]:
    """The values that count, in ascending order; notes are collected with the names that they concern."""
    kept: dict[float, Noted] = {}
    latest, dropped, replaced = 0.0, 0, 0
    resumed = again = every[0].place
    for one in every:
        if one.at < latest:
            gone = [count for count in kept if count >= one.at]
            dropped, resumed = dropped + len(gone), one.place
            for count in gone:
                del kept[count]
        elif one.at in kept and not _same(kept[one.at].value, one.value):
            replaced, again = replaced + 1, one.place
        kept[one.at], latest = one, one.at
    if dropped:
        told.setdefault(f"resumed in {resumed}; earlier values dropped: {dropped}", []).append(name)
    if replaced:
        what = f"two values at {replaced} of {len(kept)} places, the last in {again}: the later one counts"
        told.setdefault(what, []).append(name)
    return {count: kept[count].value for count in sorted(kept)}


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
