"""`watchkeeper evaluate`: how good predictions were, by their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from watchkeeper.commands.options import tell
from watchkeeper.costs import CostsConfig
from watchkeeper.errors import ConfigError
from watchkeeper.evaluation import Evaluation, terminal
from watchkeeper.evaluation import evaluate as evaluated


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Predictions: CSV or Parquet, a file, folder or glob.")],
    outcomes: Annotated[Path | None, typer.Argument(help="Their labels, where they lie apart.")] = None,
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass, regression, multilabel or ranking; else told from the data.")
    ] = None,
    score: Annotated[str | None, typer.Option(help="The column of the score.")] = None,
    prediction: Annotated[str | None, typer.Option(help="The column of what was predicted.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of the label.")] = None,
    positive: Annotated[
        str | None, typer.Option(help="The label that means yes, where labels are not 0 and 1.")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="The column that joins outcomes to predictions.")] = None,
    time: Annotated[str | None, typer.Option(help="The column that says when a prediction was made.")] = None,
    every: Annotated[str | None, typer.Option(help="How long each stretch of time is, such as 1d.")] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(help="A column to look within as well, or several to cross: country,device."),
    ] = None,
    search: Annotated[
        list[str] | None, typer.Option(help="A column to search for weak segments, also in crossings with others.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="The score from which on a prediction is positive.")] = 0.5,
    false_positive: Annotated[float | None, typer.Option(help="What a false positive costs.")] = None,
    false_negative: Annotated[float | None, typer.Option(help="What a false negative costs.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Other predictions with labels, to tell the change and to estimate by.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="A column that estimates heed too, of binary predictions and regressions.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="The column that tells the queries of a ranking apart.")] = None,
    k: Annotated[int, typer.Option(help="How many of the first rows of a ranking count.")] = 10,
    at_least: Annotated[list[str] | None, typer.Option(help="A limit on a metric, such as auc=0.7.")] = None,
    at_most: Annotated[list[str] | None, typer.Option(help="A limit on a metric, such as mae=3.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report that opens anywhere.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything as JSON; - for standard output.")
    ] = None,
) -> None:
    """Tell how good predictions were or, without labels, will be. Exit code 0: within all limits. 1: a limit is
    breached: the whole interval of a metric lies beyond it. 2: the predictions could not be evaluated."""
    if (false_positive is None) != (false_negative is None):
        raise ConfigError("costs are of both mistakes; give --false-positive and --false-negative, or neither")
    costs = None
    if false_positive is not None and false_negative is not None:
        costs = CostsConfig(false_positive=false_positive, false_negative=false_negative)
    limits = [(*_limit(said), True) for said in at_least or ()] + [(*_limit(said), False) for said in at_most or ()]
    found = evaluated(
        str(predictions),
        None if outcomes is None else str(outcomes),
        task=task,
        score=score,
        prediction=prediction,
        label=label,
        positive=positive,
        request_id=request_id,
        time=time,
        every=every,
        segments=[tuple(columns.split(",")) for columns in segment or ()],
        search=search or (),
        threshold=threshold,
        costs=costs,
        reference=None if reference is None else str(reference),
        features=feature or (),
        query=query,
        k=k,
    )
    breaches = [text for metric, limit, least in limits if (text := _breach(found, metric, limit, least))]

    def show(console: Console) -> None:
        terminal.show(found, console)
        for text in breaches:
            console.print(text, style="bold red", soft_wrap=True)

    tell(found, html, json_file, show)
    raise typer.Exit(1 if breaches else 0)


def _limit(said: str) -> tuple[str, float]:
    name, _, value = said.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise ConfigError(f'"{said}" is no limit; write a metric and a number, such as auc=0.7') from None


def _breach(found: Evaluation, metric: str, limit: float, least: bool) -> str:
    """What is wrong with a metric, or nothing. Raises ConfigError for a metric that there is none of."""
    try:
        point = found[metric]
    except KeyError as problem:
        raise ConfigError(str(problem.args[0])) from problem
    end = point.high if least else point.low
    if end is None or (end >= limit if least else end <= limit):
        return ""
    side, wanted = ("above", "at least") if least else ("below", "at most")
    return f"{metric} is {point.value:.4g}, and not {side} {end:.4g}: the limit is {wanted} {limit:g}"
