"""How near performance without labels is to what the labels say: beside NannyML, on the same rows and chunks.

python bench/estimation.py [--quick] [--json]

The data are NannyML's own (car loans, California housing, credit cards of three kinds, car prices, and employment in
Massachusetts, as its package has them) and flights out of New York in 2013 with three covariate shifts: rows of later
months drawn by weather, by hour and by distance, more strongly from chunk to chunk. Each tool is given the reference
with labels and the chunks without. `worse_than_nannyml` counts the metrics of cases in which the mean absolute error is
larger than NannyML's by more than two standard errors of the paired difference; `larger_than_nannyml` counts every
larger one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import peers
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from scipy import stats

import watchkeeper as wk
from watchkeeper import adaptation
from watchkeeper.demo import flights
from watchkeeper.demo import model as demo
from watchkeeper.stats import confusion, estimation, scores
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.scores import Scores

CONSOLE = Console(width=130)
STARTED = perf_counter()
ALPHA = 0.025
NO_FEATURES = ("score", "prediction", "label")
ANCHORS = {"roc_auc": 0.550, "f1": 0.689, "accuracy": 0.668}
"""Mean absolute errors, in points, of PAPE on the employment data in chunks of 2,000 rows."""
Metric = Callable[[Scores], float | None]


@dataclass(frozen=True)
class Case:
    """Columns `score` (of a classifier), `prediction` and `label`; all others are features."""

    name: str
    kind: str
    reference: pd.DataFrame
    analysis: pd.DataFrame
    chunk: int
    shifted: bool = False

    @property
    def features(self) -> list[str]:
        return [name for name in self.reference if name not in NO_FEATURES]

    @property
    def threshold(self) -> float:
        """From which score on this model predicts a positive, in whole thousandths."""
        return float(np.floor(self.reference.score[self.reference.prediction == 1].min() * 1000 + 1e-9) / 1000)

    def chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.analysis) - self.chunk + 1, self.chunk):
            yield slice(start, start + self.chunk)


def matrix(case: Case, also: tuple[str, ...] = ()) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The features of both sides as numbers, and which of them are codes of categories."""
    sides, codes = [], []
    for i, name in enumerate([*case.features, *also]):
        before, after = case.reference[name], case.analysis[name]
        if before.dtype.kind not in "iuf":
            known = {value: code for code, value in enumerate(sorted(before.astype(str).unique()))}
            before, after = (side.astype(str).map(known) for side in (before, after))
            codes.append(i)
        sides.append((before.to_numpy(float), after.to_numpy(float)))
    return np.column_stack([s for s, _ in sides]), np.column_stack([s for _, s in sides]), tuple(codes)


def metrics(threshold: float) -> dict[str, Metric]:
    return {
        "roc_auc": lambda counts: scores.auc(counts, ALPHA).value,
        "f1": lambda counts: confusion.f1(Confusion.at(counts, threshold), ALPHA).value,
        "accuracy": lambda counts: confusion.accuracy(Confusion.at(counts, threshold), ALPHA).value,
    }


def classified(case: Case) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray], np.ndarray]:
    """Errors of each of our ways by metric and chunk, the realised values, and which bands held them."""
    before, after, codes = matrix(case)
    said, was = (case.reference[name].to_numpy(float) for name in ("score", "label"))
    reference = adaptation.Rows(before, said, was, codes)
    seen, model, wanted = adaptation.counts(said, was), adaptation.FeatureAware(reference), metrics(case.threshold)
    found: dict[str, dict[str, list[float]]] = {
        way: {name: [] for name in wanted} for way in ("scores", "rows", "none")
    }
    real: dict[str, list[float]] = {name: [] for name in wanted}
    held = []
    for chunk in case.chunks():
        now = case.analysis.score.to_numpy(float)[chunk]
        truth = adaptation.counts(now, case.analysis.label.to_numpy(float)[chunk])
        rows = truth.negatives + truth.positives
        ways = adaptation.ways(reference, model, after[chunk], now)
        for name, value in wanted.items():
            alone = estimation.estimate(value, seen, truth.lower, truth.upper, rows, case.threshold, ALPHA, (0, 1))
            both = adaptation.estimate(value, reference, ways, now, case.threshold, ALPHA, (0, 1))
            realised = value(truth)
            assert alone.value is not None
            assert both.value is not None
            assert both.low is not None
            assert both.high is not None
            assert realised is not None
            found["scores"][name].append(alone.value)
            found["rows"][name].append(both.value)
            found["none"][name].append(value(seen) or 0.0)
            real[name].append(realised)
            held.append(both.low <= realised <= both.high)
    return (
        {way: {name: np.array(each) for name, each in of.items()} for way, of in found.items()},
        {name: np.array(each) for name, each in real.items()},
        np.array(held),
    )


def predicted(case: Case) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray], np.ndarray]:
    """The same of a regression."""
    before, after, codes = matrix(case, ("prediction",))
    errors = (case.reference.prediction - case.reference.label).to_numpy(float)
    model = adaptation.ErrorModel(before, errors, codes)
    off = (case.analysis.prediction - case.analysis.label).to_numpy(float)
    each = [(model.estimate(after[chunk], ALPHA), off[chunk]) for chunk in case.chunks()]
    found = {"mae": [e[0] for e, _ in each], "rmse": [e[1] for e, _ in each]}
    real = {
        "mae": np.array([np.abs(o).mean() for _, o in each]), "rmse": np.array([(o**2).mean() ** 0.5 for _, o in each])
    }  # fmt: skip
    held = [
        (e.low or 0) <= truth <= (e.high or 0)
        for name in found
        for e, truth in zip(found[name], real[name], strict=True)
    ]
    before_now = {"mae": np.abs(errors).mean(), "rmse": (errors**2).mean() ** 0.5}
    rows = {name: np.array([e.value for e in of]) for name, of in found.items()}
    return (
        {"rows": rows, "none": {name: np.full(len(each), value) for name, value in before_now.items()}},
        real,
        np.array(held),
    )


def of_classes(case: Case) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray], np.ndarray]:
    """The same of several classes, from scores alone."""
    names = {"roc_auc": "macro_auc", "f1": "macro_f1", "accuracy": "accuracy"}
    chunks = [case.analysis[chunk] for chunk in case.chunks()]
    found = [wk.evaluate(chunk.drop(columns="label"), reference=case.reference) for chunk in chunks]
    turned = [wk.evaluate(chunk) for chunk in chunks]
    before = found[0].reference
    assert before is not None
    real = {name: np.array([of[own].value for of in turned]) for name, own in names.items()}
    points = {name: [of[f"estimated_{own}"] for of in found] for name, own in names.items()}
    held = [(p.low or 0) <= truth <= (p.high or 0) for name in names
            for p, truth in zip(points[name], real[name], strict=True)]  # fmt: skip
    rows = {name: np.array([p.value for p in each]) for name, each in points.items()}
    none = {name: np.full(len(chunks), before.whole[own].value) for name, own in names.items()}
    return {"scores": rows, "rows": rows, "none": none}, real, np.array(held)


def theirs(case: Case, folder: Path, worker: peers.Worker, seconds: float) -> dict[str, np.ndarray]:
    paths = [folder / f"{case.name.replace(' ', '-')}-{side}.parquet" for side in ("reference", "analysis")]
    for path, table in zip(paths, (case.reference, case.analysis), strict=True):
        table.to_parquet(path)
    job = {"kind": case.kind, "chunk": case.chunk, "features": case.features}
    found = worker.ask("estimate", seconds, reference=str(paths[0]), analysis=str(paths[1]), **job)
    print(f"  NannyML on {case.name}: {found['seconds']:.1f} s", file=sys.stderr)
    number = len([*case.chunks()])
    return {name: np.array(of)[:number] for name, of in found.items() if isinstance(of, list)}


WAYS = {"binary": classified, "multiclass": of_classes, "regression": predicted}


# Data


def bundled(quick: bool) -> Iterator[Case]:
    """NannyML's own data, from its package."""
    home = peers.interpreter("nannyml", 900).parents[1]
    data = home / "lib" / f"python{peers.PYTHON}" / "site-packages" / "nannyml" / "datasets" / "data"

    def case(name: str, files: str, label: str, chunk: int, most: int, key: str = "y_pred_proba") -> Case:
        before, after, target = (pd.read_csv(data / file) for file in files.split())
        after = after.merge(target, on="id") if "id" in after else after.assign(**{label: target[label]})
        classes = {name: f"score:{name.removeprefix(f'{key}_')}" for name in before if name.startswith(f"{key}_")}
        names = {key: "score", "y_pred": "prediction", label: "label", **classes}
        sides = [table.rename(columns=names).drop(columns=["id", "timestamp"]) for table in (before, after)]
        kind = "binary" if "score" in sides[0] else "multiclass" if "score:" in "".join(sides[0]) else "regression"
        step = max(len(sides[0]) // most, 1)
        return Case(name, kind, sides[0].iloc[::step].reset_index(drop=True), sides[1], chunk)

    most = 16_000 if quick else 10**9
    yield case("car loans", "synthetic_car_loan_reference.csv synthetic_car_loan_analysis.csv"
               " synthetic_car_loan_analysis_target.csv", "repaid", 5000, most)  # fmt: skip
    yield case("California housing", "california_housing_reference.csv california_housing_analysis.csv"
               " california_housing_analysis_gt.csv", "clf_target", 1000, most)  # fmt: skip
    if quick:
        CONSOLE.print("Credit cards, car prices and employment are left out of a quick run.")
        return
    yield case("credit cards", "mc_reference.csv mc_analysis.csv mc_analysis_gt.csv", "y_true", 5000, most)
    yield case("car prices", "regression_synthetic_reference.csv regression_synthetic_analysis.csv"
               " regression_synthetic_analysis_targets.csv", "y_true", 5000, most)  # fmt: skip
    if not (data / "employment_MA_reference.pq").exists():
        CONSOLE.print("The employment data is not in this NannyML package: its anchors are left out.", style="yellow")
        return
    before, after, target = (
        pd.read_parquet(data / f"employment_MA_{part}.pq") for part in ("reference", "analysis", "analysis_target")
    )
    names = {"predicted_probability": "score", "employed": "label"}
    sides = [t.rename(columns=names).drop(columns=["id", "year"]) for t in (before, after.merge(target, on="id"))]
    yield Case("employment", "binary", *sides, 2000)


def flown(quick: bool) -> Iterator[Case]:
    """Flights of the year's second half, scored by a model of the first months: half of them the reference, of the
    other half rows drawn with odds that grow with the wind, the hour, or the distance."""
    table = flights.load().to_pandas().dropna(subset=["label"])
    first, later = table[table.event_time.dt.month <= 2], table[table.event_time.dt.month >= 5]
    with tempfile.TemporaryDirectory() as folder:
        demo.train(_arrow(first), Path(folder))
        model = demo.load(Path(folder))
    rng = np.random.default_rng(13)
    columns = [*demo.CATEGORIES, *demo.NUMBERS, "label"]
    later = later.iloc[rng.permutation(len(later))]
    later = later[columns].assign(score=model.scores(_arrow(later)))
    later = later.assign(prediction=(later.score >= 0.3).astype(int), label=later.label.astype(int))
    half = len(later) // 2
    reference, rest = later.iloc[: 16_000 if quick else half].reset_index(drop=True), later.iloc[half:]
    number, chunk = (6, 8000) if quick else (10, 10_000)
    for column in ("wind_speed", "hour", "distance"):
        values = rest[column].fillna(rest[column].median()).rank(pct=True).to_numpy() - 0.5
        parts = []
        for i in range(number):
            odds = np.exp(6.0 * i / (number - 1) * values)
            parts.append(rest.iloc[rng.choice(len(rest), chunk, replace=True, p=odds / odds.sum())])
        yield Case(
            f"flights by {column.replace('_', ' ')}", "binary", reference, pd.concat(parts, ignore_index=True), chunk,
            shifted=True,
        )  # fmt: skip


def _arrow(table: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(table, preserve_index=False)


# What comes of it


def coverage(quick: bool) -> float:
    """The least share of bands at 95 % that held the realised value, over settings in which the assumptions hold."""
    lower = np.arange(200) / 200
    middle, truth = lower + 0.0025, 1 / (1 + ((1 - lower - 0.0025) / (lower + 0.0025)) ** 1.5)
    share = np.diff(stats.beta(1, 2).cdf(np.append(lower, 1.0)))
    rng, wanted, times, least = np.random.default_rng(3), metrics(0.5), 400 if quick else 3000, 1.0
    settings = [((m, n), moved) for m, n in ((5000, 1000), (50_000, 5000)) for moved in (0.0, 2.0)]
    for (m, n), moved in settings[:2] if quick else settings:
        later = share * np.exp(moved * middle)
        held = dict.fromkeys(wanted, 0)
        for _ in range(times):
            sides = []
            for part, rows in ((share, m), (later, n)):
                drawn = rng.multinomial(rows, part / part.sum())
                ones = rng.binomial(drawn, truth)
                some = drawn > 0
                sides.append(Scores(lower[some], lower[some] + 0.005, (drawn - ones)[some] * 1.0, ones[some] * 1.0))
            seen, now = sides
            for name, value in wanted.items():
                found = estimation.estimate(
                    value, seen, now.lower, now.upper, now.negatives + now.positives, 0.5, ALPHA, (0, 1)
                )
                held[name] += (found.low or 0) <= (value(now) or 0) <= (found.high or 0)
        CONSOLE.print(f"coverage, {m:,} reference rows, {n:,} to come, scores {'moved' if moved else 'as before'}: "
                      + ", ".join(f"{name} {times_held / times:.1%}" for name, times_held in held.items()))  # fmt: skip
        least = min(least, *(times_held / times for times_held in held.values()))
    return least


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="smaller references, under 50 seconds in all")
    arguments.add_argument("--json", action="store_true", help="the figures as one JSON object in the last line")
    asked = arguments.parse_args()
    columns = "", "chunks", "metric", "no estimate", "NannyML", "from scores", "from rows", "less than NannyML"
    table = Table(*columns, title="Mean absolute error of the estimates (classifiers: in points of a hundred)")
    cases, worse, larger, better, shifted, held = [], 0, 0, 0, 0, []
    with tempfile.TemporaryDirectory() as folder, peers.Worker("nannyml") as worker, ThreadPoolExecutor(1) as beside:
        for case in (*flown(asked.quick), *bundled(asked.quick)):
            limit = max(45 - (perf_counter() - STARTED), 20) if asked.quick else 3600
            asked_them = beside.submit(theirs, case, Path(folder), worker, limit)
            ours, real, within = WAYS[case.kind](case)
            held.append(within)
            try:
                nannyml = asked_them.result()
            except peers.PeerError as problem:
                CONSOLE.print(f"NannyML was not measured on {case.name}: it {problem}", style="yellow")
                break  # a late reply would pass for the next one
            for name, truth in real.items():
                unit = 1 if case.kind == "regression" else 100
                error = {way: unit * np.abs(of[name] - truth) for way, of in ours.items()}
                error["nannyml"] = unit * np.abs(nannyml[name] - truth)
                gap = error["nannyml"] - error["rows"]
                noise = float(gap.std(ddof=1) / len(gap) ** 0.5)
                mean = {way: float(of.mean()) for way, of in error.items()}
                larger, worse = larger + (gap.mean() < 0), worse + (gap.mean() < -2 * noise)
                shifted, better = shifted + case.shifted, better + (case.shifted and gap.mean() > 0)
                cases.append(
                    {
                        "case": case.name,
                        "metric": name,
                        "chunks": len(truth),
                        **{w: round(e, 4) for w, e in mean.items()},
                    }
                )
                alone = f"{mean['scores']:.3f}" if "scores" in mean else ""
                table.add_row(case.name, str(len(truth)), name, f"{mean['none']:.3f}", f"{mean['nannyml']:.3f}", alone,
                              f"{mean['rows']:.3f}", f"{gap.mean():+.3f} ± {noise:.3f}")  # fmt: skip
                if case.name == "employment":
                    CONSOLE.print(f"anchor of {name} on the employment data: {ANCHORS[name]}, here {mean['rows']:.3f}")
    CONSOLE.print(table)
    least = coverage(asked.quick)
    CONSOLE.print(f"{np.concatenate(held).mean():.1%} of the bands held the realised value on real data")
    CONSOLE.print(f"done in {perf_counter() - STARTED:.0f} s")
    if asked.json:
        figures = {
            "cases": cases, "worse_than_nannyml": int(worse), "larger_than_nannyml": int(larger),
            "better_under_shift": f"{better} of {shifted}", "coverage_min": round(least, 4),
            "bands_held": round(float(np.concatenate(held).mean()), 4),
            "bench_seconds": round(perf_counter() - STARTED, 1),
        }  # fmt: skip
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
