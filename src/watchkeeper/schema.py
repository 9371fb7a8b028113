"""The words of the configuration: what a model is, what is watched, what an alarm may cost.

These are Pydantic models: unknown keys and wrong types are refused. Whether a metric exists and fits its
column is judged by `monitors.plan`, which knows the metrics. `config.py` reads files into these.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from watchkeeper.costs import Costs, CostsConfig, Word, check_classes, word
from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.events import EXPECTED, FIELDS, KPI, RESERVED, SAID, SCORES, score_of
from watchkeeper.records import Severity
from watchkeeper.settings import (
    KPI_NAME,
    AuditConfig,
    Duration,
    EventsConfig,
    InferenceConfig,
    KeyConfig,
    KpiConfig,
    PrivacyConfig,
    RetentionConfig,
    StoreConfig,
    Strict,
    UnlabelledConfig,
    duration,
)
from watchkeeper.windows import DAY, GRAINS, Window, parse_duration, show_duration


@dataclass(frozen=True, slots=True)
class Ago:
    """The window itself, moved back by a length of time; with `times`, that often, and all of these together."""

    back: timedelta
    times: int = 1

    def __str__(self) -> str:
        return f"{f'{self.times} x ' if self.times > 1 else ''}{show_duration(self.back)} ago"


def _baseline(value: Any) -> timedelta | Ago | str | None:
    if value is None or value == "reference":
        return None
    if isinstance(value, Ago) or value in ("previous", SEASONAL):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and (shift := re.fullmatch(r"(?:(\d+) ?x ?)?(\w+) ago", value.strip())):
        times = int(shift[1] or 1)
        if not 1 <= times <= MOST_TIMES:
            raise ValueError(f'"{value}" looks back {times} times; write 1 to {MOST_TIMES}')
        return Ago(parse_duration(shift[2]), times)
    try:
        return duration(value)
    except ConfigError:
        raise ConfigError(
            f'"{value}" is no baseline; write reference, previous, seasonal, a duration such as 28d, or how long ago,'
            " such as 7d ago or 4 x 7d ago"
        ) from None


def show_baseline(baseline: timedelta | Ago | str | None) -> str:
    """The form in which a baseline is written in a configuration."""
    if baseline is None:
        return "reference"
    return show_duration(baseline) if isinstance(baseline, timedelta) else str(baseline)


SEASONAL = "seasonal"
WEEK, WEEKS, YEAR = 7 * DAY, 8, 364 * DAY
"""The season that a seasonal baseline takes off, over how many of them it looks, and a year of whole weeks."""
MOST_TIMES = 53
"""How often a baseline may look back: once a week, for a year."""

Baseline = Annotated[
    timedelta | Ago | Literal["previous", "seasonal"] | None,
    BeforeValidator(_baseline),
    PlainSerializer(show_baseline, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["reference", "previous", "28d", "7d ago", "4 x 7d ago", SEASONAL]}),
]
"""What current data is compared with: the champion's reference data (None); the stretch of this length, or the window,
just before; the window some time ago; or what the last weeks let expect."""


class Kind(StrEnum):
    """What a column holds.

    A moment is summarised as seconds since 1970 and a duration as seconds, both like numbers. Of a text a few
    numbers are, its descriptors.
    """

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    DATETIME = "datetime"
    DURATION = "duration"
    TEXT = "text"


class Task(StrEnum):
    """What a model predicts: yes or no, one of several classes, or a number."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


ERRORS = ("error", "percentage error", "symmetric error")
"""What is watched of a regression once labels are known: prediction less label, the size of that over that of the
label, and over the mean size of both."""

DESCRIPTORS = ("length", "words", "non_ascii", "digits")
"""What is watched of a text: characters, words, and the shares of characters that are not ASCII or are digits."""


def _differ_beyond_case(names: Iterable[str], what: str) -> None:
    """Tables and their columns, and on some systems folders, cannot tell names apart by case."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f'two {what} are called "{other}" and "{name}", which differ only in case; rename one')


class Protection(StrEnum):
    """What is kept of a sensitive value: a keyed hash, so that equal values stay equal; its shape; or nothing."""

    PSEUDONYMISE = "pseudonymise"
    MASK = "mask"
    DROP = "drop"


class ColumnConfig(Strict):
    """A feature: how it is summarised, what stands for "unknown" in it, and what else was agreed about its values.

    Values of `missing` are counted as missing. `min` and `max` are the least and the greatest value that are right,
    `categories` all values that are right; without them, the baseline says what is. `max_nulls` is the largest share
    of missing values that is right, and the limit of the built-in monitor. `unique` says that no value comes twice,
    which the comparison of two tables checks.

    `sensitive` is what becomes of the column's values before they are stored. `pseudonymise` stores a keyed hash of a
    category. `mask` stores of a category or a text its shape, such as `Xxxx 99`, of a number its first digit, and of a
    moment its year. `drop` stores nothing, and the column is not watched. What stands for "unknown" is stored as it is.
    Values of a sensitive column that fewer rows share than `k_anonymity` says are never named in what is kept of it.
    """

    kind: Kind
    missing: tuple[float | str, ...] = ()
    min: float | None = None
    max: float | None = None
    categories: tuple[Word, ...] | None = None
    max_nulls: float | None = Field(default=None, ge=0, le=1)
    unique: bool = False
    sensitive: Protection | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ColumnConfig:
        if self.sensitive is Protection.PSEUDONYMISE and self.kind is not Kind.CATEGORICAL:
            raise ConfigError(
                f"pseudonymise is for categorical columns, this one is {self.kind}, and hashes cannot be summarised as"
                " such; use mask, which keeps the first digit of a number, the year of a moment and the shape of a"
                " text, or drop",
                ("sensitive",),
            )
        for name in ("min", "max", "categories"):
            if self.sensitive is not None and getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} cannot be checked where the values are not stored as they are; leave it out, or take"
                    " sensitive away",
                    (name,),
                )
        for name in ("min", "max"):
            if getattr(self, name) is not None and self.kind not in (Kind.NUMERIC, Kind.DURATION):
                raise ConfigError(f"{name} is for numeric columns, this one is {self.kind}; leave it out", (name,))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigError(f"min must not be above max, found {self.min:g} and {self.max:g}", ("min",))
        if self.categories is not None:
            if self.kind is not Kind.CATEGORICAL:
                raise ConfigError(
                    f"categories is for categorical columns, this one is {self.kind}; leave it out", ("categories",)
                )
            if not self.categories or len({*self.categories}) < len(self.categories):
                raise ConfigError("categories must name each category once, and one at least", ("categories",))
            if known := {*self.categories} & {word(value) for value in self.missing}:
                raise ConfigError(
                    f'"{min(known)}" is both a category and missing; keep it in one of the two', ("categories",)
                )
        return self


LEAST = 5
"""Rows that share a value of a sensitive column before it is named, where the configuration does not say."""

AGE = "age"
"""What is watched of a moment beside itself: how long before the prediction it was, which tells a stale feature."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What is watched of a column: itself, or a descriptor of it, whose name is `column.descriptor`.

    `named_from` is how many rows must share a value for it to be named in what is kept; 0 for any number.
    """

    column: str
    kind: Kind
    missing: tuple[float | str, ...] = ()
    descriptor: str = ""
    named_from: int = 0

    @classmethod
    def of(cls, name: str, config: ColumnConfig, k_anonymity: int | None = None) -> dict[str, Feature]:
        """The features that a column stands for, by name."""
        named_from = k_anonymity or (LEAST if config.sensitive else 0)
        if config.kind is Kind.TEXT:
            return {f"{name}.{part}": cls(name, Kind.NUMERIC, config.missing, part) for part in DESCRIPTORS}
        itself = {name: cls(name, config.kind, config.missing, named_from=named_from)}
        if config.kind is Kind.DATETIME:
            return itself | {f"{name}.{AGE}": cls(name, Kind.DURATION, config.missing, AGE)}
        return itself

    @property
    def first(self) -> bool:
        """Whether it speaks for the column where only the presence of a value matters, which all descriptors share."""
        return self.descriptor in ("", DESCRIPTORS[0])


class MonitorConfig(Strict):
    """One stated limit. It is looked at once a grain, for each of its columns and segments.

    `columns` is "features", or names of features, or `score`, `latency_ms`, `status`, `variant`, or what predictions
    used (`cpu_ms`, `memory_mb`, `gpu_memory_mb`, `disk_mb`, `cost`); a metric of the whole model (volume, accuracy)
    takes none. `relative` says that the limit is on the difference from
    or the ratio to the baseline instead of the value itself. `baseline` is what it is compared with:

    - `reference`: what the champion was trained on;
    - `28d`, or another duration: the stretch of that length just before the window;
    - `previous`: the window before, which is as long;
    - `7d ago`: the window, a week earlier. For a window of an hour that is the same hour last week; `364d ago` is
      the same weekday a year ago;
    - `4 x 7d ago`: the same hour of each of the last four weeks, together;
    - `seasonal`: what the last eight weeks let expect of the window, their trend and the season of the week taken off.
      Once the log holds the same weeks of a year before, what changed since then is expected instead, so that the
      season of the year is taken off too. The interval is of the errors of such expectations. It is for a relative
      limit on a metric without labels, in a window that a week is a multiple of.

    What was not logged yet is no baseline: until there is one, the verdict is "not enough data".

    With `segments` it looks at all rows and at each segment of the model; each of these looks counts in the alarm
    budget and needs `min_rows` of its own.

    With `groups`, one of the model's segments such as `gender` or `[gender, age_group]`, it looks at how far the groups
    lie apart: of a metric of groups, such as `four_fifths`, its value, and of any other, such as `recall`, the greatest
    difference between two groups. That is one look however many groups there are; the interval allows for it.

    With `early` a metric that needs labels is judged a second time, before that: so long after the predictions, by the
    labels that are known by then, corrected for those that are not. These looks are a monitor of their own, whose name
    ends in "(early)", and count in the alarm budget. Without it nothing is judged before `label_delay` is over.
    """

    name: str = Field(min_length=1, max_length=80)
    metric: str
    columns: Literal["features"] | tuple[str, ...] | None = None
    window: Duration = DAY
    above: float | None = None
    below: float | None = None
    relative: Literal["difference", "ratio"] | None = None
    baseline: Baseline = None
    segments: bool = False
    groups: str | tuple[str, ...] | None = None
    severity: Severity = Severity.P2
    min_rows: int = Field(default=50, ge=1)
    early: Duration | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> MonitorConfig:
        if (self.above is None) == (self.below is None):
            raise ValueError(f'monitor "{self.name}" needs one limit: either above or below')
        if isinstance(self.baseline, Ago) and self.baseline.back < self.window:
            raise ConfigError(
                f'the baseline of monitor "{self.name}" overlaps its window: look back at least'
                f" {show_duration(self.window)}, found {self.baseline}",
                ("baseline",),
            )
        if self.baseline == SEASONAL and (self.relative is None or WEEK % self.window):
            raise ConfigError(
                f'a seasonal baseline of monitor "{self.name}" needs relative: difference or ratio, and a window that a'
                f" week is a multiple of; found {self.relative or 'no relative'} and {show_duration(self.window)}",
                ("baseline",),
            )
        if isinstance(self.columns, tuple) and (not self.columns or len({*self.columns}) < len(self.columns)):
            raise ConfigError(
                f'monitor "{self.name}" must name each of its columns once, and one at least', ("columns",)
            )
        return self

    def before(self, window: Window) -> tuple[Window, ...]:
        """The stretches of time that a window is compared with; none for the reference."""
        if self.baseline is None:
            return ()
        if isinstance(self.baseline, Ago):
            shifts = [i * self.baseline.back for i in range(1, self.baseline.times + 1)]
            return tuple(Window(window.start - shift, window.end - shift) for shift in shifts)
        if self.baseline == SEASONAL:
            begin = window.start - WEEKS * WEEK
            return Window(begin, window.start), Window(begin - YEAR, window.end - YEAR)
        length = window.length if isinstance(self.baseline, str) else self.baseline
        return (Window(window.start - length, window.start),)

    @property
    def grouping(self) -> tuple[str, ...]:
        """The columns whose groups are compared; none where none are."""
        return (self.groups,) if isinstance(self.groups, str) else self.groups or ()

    @property
    def limit(self) -> float:
        return self.above if self.above is not None else self.below  # type: ignore[return-value]

    @property
    def direction(self) -> Literal["above", "below"]:
        return "above" if self.above is not None else "below"


class RetrainConfig(Strict):
    """When and how a new candidate is made.

    `trainer` is `module:function`; it runs in a process of its own. Rows of the last `train_on` are split by
    time: the last `hold_out` of them judge the candidate against the champion. `margin` is how much worse in
    log loss the candidate may be and still pass.
    """

    trainer: str = Field(pattern=r"^[\w.]+:\w+$")
    causes: tuple[str, ...] = ("drift", "performance")
    train_on: Duration = timedelta(days=60)
    hold_out: Duration = timedelta(days=14)
    cool_down: Duration = timedelta(days=30)
    min_rows: int = Field(default=1000, ge=10)
    margin: float = Field(default=0.0, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    timeout: Duration = timedelta(hours=1)

    @model_validator(mode="after")
    def _holds_out_less_than_all(self) -> RetrainConfig:
        if self.hold_out >= self.train_on:
            raise ValueError("hold_out must be shorter than train_on, which it is cut from")
        return self


class RolloutConfig(Strict):
    """How a candidate takes over traffic, and what stops it.

    `stages` are the candidate's shares of the traffic. A stage lasts at least `hold`. The arms are compared
    at each tick by a confidence sequence at level `alpha`, which may be looked at any number of times. The
    candidate is rolled back once its log loss, error rate or latency is worse with confidence; the last
    stage is left, by promotion, once the log loss is proven no worse than the champion's by more than
    `margin`. `error_margin` is in error rate, `latency_ratio` a ratio of medians.
    """

    stages: tuple[float, ...] = (0.05, 0.25, 1.0)
    hold: Duration = timedelta(days=2)
    max_duration: Duration = timedelta(days=30)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    margin: float = Field(default=0.05, gt=0)
    error_margin: float = Field(default=0.01, ge=0)
    latency_ratio: float = Field(default=2.0, gt=1)
    score_shift: float = Field(default=0.5, gt=0, le=1)
    min_rows: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _stages_grow(self) -> RolloutConfig:
        if len(self.stages) < 2 or self.stages[-1] != 1.0 or any(not 0 < s <= 1 for s in self.stages):
            raise ValueError(
                "stages must be shares between 0 and 1, of which both models get some, and end with 1.0,"
                " such as [0.05, 0.25, 1.0]"
            )
        if list(self.stages) != sorted(set(self.stages)):
            raise ValueError("stages must grow from one to the next")
        if self.hold * (len(self.stages) - 1) >= self.max_duration:
            raise ValueError(
                "max_duration must be longer than all the stages are held, or no candidate could take over"
            )
        return self


class ModelConfig(Strict):
    """A model: its task, its columns, how its time is cut, and what is watched.

    `task` is what it predicts: `binary` (a score between 0 and 1), `multiclass` (one of `classes`) or `regression` (a
    number). `threshold`, `retrain`, `rollout` and `fallback_score` are for binary classifiers.
    `grain` is the length of time that one stored summary covers. `label_delay` is how long labels take:
    performance is judged that much later, and only where `label_coverage` of the predictions have theirs.
    `unlabelled` says what predictions count as that never get a label: no click is a no.
    `threshold` is the score from which on a prediction is positive, and `costs` what predictions of a classifier cost
    by how they turn out.
    `alarm_budget` is the number of false alarms of each severity that may be expected in 30 days.
    `reference` is a CSV or Parquet file of the data that the first champion was trained on (features, and score and
    label where there are any), beside the configuration, and `champion` the version that it is logged under.
    `fallback_score` is what is served when the model fails.
    `estimation` is what performance is estimated from before the labels come: from the `scores` alone, or from the
    `features` too, which needs the rows of a labelled reference and scikit-learn; of a regression, from them alone.

    `segments` are the parts of the traffic that are summarised apart: `[country, [country, device]]` is each country,
    and each crossing of country and device. Their columns are categorical features. The 100 values (or crossings) that
    the reference holds most often are segments of their own, such as `country=NL`, and stay so; all others are
    `country=(other)`, and rows without a value `country=(missing)`. Monitors that say `segments: true` look at them;
    where there are no `monitors`, the default ones do. A segment is not looked at for its own columns.

    `kpis` are the business values that are logged for predictions, after them, such as `revenue`.
    """

    task: Task = Task.BINARY
    classes: tuple[Word, ...] = ()
    grain: Literal["1h", "1d"] = "1d"
    columns: dict[str, ColumnConfig] = Field(min_length=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    costs: Costs | None = None
    label_delay: Duration = DAY
    label_coverage: float = Field(default=0.8, gt=0, le=1)
    unlabelled: UnlabelledConfig | None = None
    alarm_budget: dict[Severity, float] = Field(default={Severity.P0: 0.1, Severity.P1: 0.5, Severity.P2: 2.0})
    monitors: tuple[MonitorConfig, ...] | None = None
    resolve_after: Duration = timedelta(days=3)
    segments: tuple[str | tuple[str, ...], ...] = ()
    reference: str | None = None
    champion: str = Field(default="v1", min_length=1)
    retrain: RetrainConfig | None = None
    rollout: RolloutConfig = RolloutConfig()
    fallback_score: float | None = Field(default=None, ge=0, le=1)
    inference: InferenceConfig = InferenceConfig()
    estimation: Literal["scores", "features"] = "scores"
    kpis: dict[str, KpiConfig] = Field(default={})
    privacy: PrivacyConfig = PrivacyConfig()
    retention: RetentionConfig = RetentionConfig()
    events: EventsConfig | None = None

    @model_validator(mode="after")
    def _names_and_times_fit(self) -> ModelConfig:
        for name in self.columns:
            if not name or name.lower() in RESERVED:
                raise ValueError(f'a feature cannot be called "{name}": that name has a meaning of its own; rename it')
        _differ_beyond_case(self.columns, "features")
        self._fits_task()
        self._segments_fit()
        self._kpis_fit()
        for severity in Severity:
            if self.alarm_budget.get(severity, 0) <= 0:
                raise ValueError(f"alarm_budget needs a number above 0 for {severity}")
        for monitor in self.monitors or ():
            if monitor.window % self.grain_length:
                raise ValueError(
                    f'the window of monitor "{monitor.name}" must be a multiple of the grain {self.grain},'
                    f" found {show_duration(monitor.window)}"
                )
            length = monitor.baseline.back if isinstance(monitor.baseline, Ago) else monitor.baseline
            if isinstance(length, timedelta) and length % self.grain_length:
                raise ValueError(
                    f'the baseline of monitor "{monitor.name}" must be a multiple of the grain {self.grain}'
                )
        if self.label_delay % self.grain_length:
            raise ValueError(f"label_delay must be a multiple of the grain {self.grain}")
        for i, monitor in enumerate(self.monitors or ()):
            if monitor.early and (monitor.early % self.grain_length or monitor.early >= self.label_delay):
                raise ConfigError(
                    f"must be a multiple of the grain {self.grain} and shorter than label_delay,"
                    f" {show_duration(self.label_delay)}; found {show_duration(monitor.early)}",
                    ("monitors", i, "early"),
                )
        if self.unlabelled and self.task is not Task.BINARY:
            raise ConfigError("is for binary models, whose labels are 0 and 1; leave it out", ("unlabelled",))
        if self.unlabelled and self.unlabelled.after > self.label_delay:
            raise ConfigError(
                f"must not be longer than label_delay, {show_duration(self.label_delay)}, when performance is judged;"
                f" found {show_duration(self.unlabelled.after)}",
                ("unlabelled", "after"),
            )
        names = [m.name for m in self.monitors or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two monitors are called "{name}"; names must differ')
        if not self.stored:
            raise ConfigError("every column is dropped, so there is nothing to watch; keep one", ("columns",))
        self._rows_stay_long_enough()
        if self.estimation == "features" and self.task is Task.MULTICLASS:
            raise ConfigError("features is for binary classifiers and regressions; leave it out", ("estimation",))
        if self.events:
            self._table_fits(self.events)
        return self

    def _fits_task(self) -> None:
        if self.task is not Task.BINARY:
            for name in ("threshold", "retrain", "rollout", "fallback_score"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ConfigError(
                        f"{name} is for binary classifiers, and the task is {self.task}; leave it out", (name,)
                    )
        taken = ERRORS if self.task is Task.REGRESSION else ()
        self._costs_fit()
        for name in self.columns:
            if name in taken or name.startswith((SCORES, SAID, EXPECTED)):
                raise ConfigError(f'a feature of this model cannot be called "{name}"; rename it', ("columns", name))
        if self.task is not Task.MULTICLASS and self.classes:
            raise ConfigError(
                f"classes is for task: multiclass, and the task is {self.task}; leave it out", ("classes",)
            )
        if self.task is Task.MULTICLASS:
            if len(self.classes) < 2 or len({*self.classes}) < len(self.classes):
                raise ConfigError(
                    f"a multi-class model must name its classes, each once, and two at least; found {[*self.classes]}",
                    ("classes",),
                )
            _differ_beyond_case(self.classes, "classes")
            for name in self.classes:
                if not name or name.startswith("("):
                    raise ConfigError(f'a class cannot be called "{name}"; rename it', ("classes",))

    def _costs_fit(self) -> None:
        if self.costs is None:
            return
        if self.task is Task.REGRESSION:
            raise ConfigError("costs are for classifiers, and the task is regression; leave them out", ("costs",))
        if isinstance(self.costs, CostsConfig) != (self.task is Task.BINARY):
            wanted = {
                Task.BINARY: "of false_positive and false_negative",
                Task.MULTICLASS: "a table, such as {fraud: {pass: 120}, pass: {fraud: 5}}: a line for each class, with"
                " what it costs to predict the others",
            }
            raise ConfigError(f"the costs of a {self.task} model are {wanted[self.task]}", ("costs",))
        if not isinstance(self.costs, CostsConfig):
            try:
                check_classes(self.costs, self.classes)
            except ConfigError as problem:
                raise ConfigError(str(problem), ("costs", *problem.path)) from None

    def _kpis_fit(self) -> None:
        for name, kpi in self.kpis.items():
            if not KPI_NAME.fullmatch(name) or name.lower() in {*RESERVED, *map(str.lower, self.columns), *ERRORS}:
                raise ConfigError(
                    "a KPI is named by a letter and up to 39 letters, digits, - and _, and not like a feature or a"
                    f' field of an event; rename "{name}"',
                    ("kpis", name),
                )
            if kpi.delay % self.grain_length:
                raise ConfigError(f"must be a multiple of the grain {self.grain}", ("kpis", name, "delay"))
        _differ_beyond_case(self.kpis, "KPIs")
        if self.kpis and self.events:
            raise ConfigError("are logged for predictions that are logged too; leave events or kpis out", ("kpis",))

    def _table_fits(self, events: EventsConfig) -> None:
        """What others keep cannot be protected or deleted here."""
        kinds = [fields for kind, fields in FIELDS.items() if kind != KPI]
        fields = [name for kind in kinds for name in kind if name not in ("kind", "model", "features")]
        fields += map(score_of, self.classes)
        for name in events.columns:
            if name not in (known := [*fields, *self.stored]):
                hint = did_you_mean(name, known)
                raise ConfigError(f'there is no field or feature "{name}"; {hint}', ("events", "columns", name))
        if events.look_back % self.grain_length or events.look_back < self.label_delay:
            raise ConfigError(
                f"must be a multiple of the grain {self.grain}, and no shorter than label_delay, or labels"
                f" would never be seen; found {show_duration(events.look_back)}",
                ("events", "look_back"),
            )
        if self.estimation == "features":
            raise ConfigError("rows of a table that others keep are not sampled; leave it out", ("estimation",))
        if self.retention != RetentionConfig():
            raise ConfigError("nothing is deleted from a table that others keep; leave retention out", ("retention",))
        wanted = [self.privacy.entity_id, self.privacy.context, *(c.sensitive for c in self.stored.values())]
        if any(wanted):
            raise ConfigError(
                "a table that others keep is read as it is, so nothing in it can be masked or pseudonymised; drop the"
                " column, or protect it in a view",
                ("events",),
            )

    def _rows_stay_long_enough(self) -> None:
        age, needed = self.retention.age, self.longest_delay + self.grain_length
        if age is not None and age % self.grain_length:
            raise ConfigError(f"age must be a multiple of the grain {self.grain}", ("retention", "age"))
        if age is not None and age < needed:
            raise ConfigError(
                f"rows must stay at least {show_duration(needed)}, label_delay (or that of a KPI) and a grain, or what"
                " comes late finds no rows;"
                f" found {show_duration(age)}",
                ("retention", "age"),
            )
        if age is not None and self.retrain and age < self.retrain.train_on + self.label_delay:
            raise ConfigError(
                f"rows must stay at least {show_duration(self.retrain.train_on + self.label_delay)}, label_delay and"
                f" train_on of retrain; found {show_duration(age)}",
                ("retention", "age"),
            )

    @property
    def longest_delay(self) -> timedelta:
        """How long it takes until all is known of a prediction: its label and its KPIs."""
        return max([self.label_delay, *(kpi.delay for kpi in self.kpis.values())])

    @cached_property
    def stored(self) -> dict[str, ColumnConfig]:
        """The columns that are not dropped."""
        return {name: column for name, column in self.columns.items() if column.sensitive is not Protection.DROP}

    @cached_property
    def features(self) -> dict[str, Feature]:
        """What can be watched of the columns, by name."""
        k = self.privacy.k_anonymity
        return {key: feature for name, c in self.stored.items() for key, feature in Feature.of(name, c, k).items()}

    def _segments_fit(self) -> None:
        seen: set[frozenset[str]] = set()
        for i, columns in enumerate(self.segmentations):
            for name in columns:
                if name not in self.columns:
                    hint = did_you_mean(name, self.columns, "its features are")
                    raise ConfigError(f'there is no feature "{name}" to make segments of; {hint}', ("segments", i))
                if name not in self.stored:
                    raise ConfigError(f'"{name}" is dropped, so there can be no segments of it', ("segments", i))
                if self.columns[name].kind is not Kind.CATEGORICAL:
                    raise ConfigError(
                        f'"{name}" is {self.columns[name].kind}, and segments are made of categorical features; log'
                        " one that names its ranges, and take that one",
                        ("segments", i),
                    )
            if not columns or len({*columns}) < len(columns) or frozenset(columns) in seen:
                raise ConfigError(
                    f"each of the segments must name other columns, each once, and one at least; found {[*columns]}"
                    f"{' again' if columns else ''}",
                    ("segments", i),
                )
            seen.add(frozenset(columns))

    @property
    def segmentations(self) -> tuple[tuple[str, ...], ...]:
        """The columns of each of the `segments`."""
        return tuple((columns,) if isinstance(columns, str) else columns for columns in self.segments)

    @property
    def grain_length(self) -> timedelta:
        return GRAINS[self.grain]


class ChannelConfig(BaseModel):
    """Where notices go. Every channel has a `type` and the lowest `severity` it takes; the channel itself
    defines and checks the rest."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    severity: Severity = Severity.P2

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Config(Strict):
    """A whole configuration: `watchkeeper.yaml`."""

    models: dict[str, ModelConfig]
    channels: dict[str, ChannelConfig] = Field(default={})
    privacy: KeyConfig = KeyConfig()
    audit: AuditConfig = AuditConfig()
    store: StoreConfig = StoreConfig()

    @model_validator(mode="after")
    def _there_is_a_key(self) -> Config:
        for name, model in self.models.items():
            wanted = [model.privacy.entity_id, *(column.sensitive for column in model.columns.values())]
            if Protection.PSEUDONYMISE in wanted and self.privacy.key is None:
                raise ConfigError(
                    f'model "{name}" has values to pseudonymise, and there is no key; add privacy: {{key: env:NAME}}'
                    " beside models",
                    ("models", name),
                )
        return self

    @model_validator(mode="after")
    def _model_names_are_plain(self) -> Config:
        for name in self.models:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", name):
                raise ValueError(
                    f'"{name}" cannot name a model: use a letter, then up to 62 letters, digits, "-" or "_"'
                )
        _differ_beyond_case(self.models, "models")
        return self

    @cached_property
    def version(self) -> str:
        """The configuration's name: `config-` and the first 12 hex digits of its content's SHA-256."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return f"config-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
