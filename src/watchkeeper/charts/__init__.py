"""Charts: points, profiles and looks as Plotly figures, plain dicts of `data` and `layout`.

The dashboard, the report and notebooks show the same ones. They carry the light theme as their template; `THEMES`
holds both. Series differ in hue and in dashes, with a contrast of at least 3 to 1 on both themes. All times are UTC.
"""

from watchkeeper.charts.curves import confusion, precision_recall, reliability, roc
from watchkeeper.charts.distributions import distribution, gathered
from watchkeeper.charts.drift import PSI_STEPS, by_drift, drift_map
from watchkeeper.charts.figures import (
    ALARM,
    BLUE,
    GREY,
    SERIES,
    THEMES,
    Figure,
    Unit,
    at,
    length_of,
    nothing,
    title_of,
    unit_of,
)
from watchkeeper.charts.kpis import kpi
from watchkeeper.charts.over_time import (
    label_coverage,
    latency,
    metric_over_time,
    performance_over_time,
    realised_and_estimated,
    shares_over_time,
    values_over_time,
    volume,
)
from watchkeeper.charts.periods import quantiles_by_period, shares_by_period
from watchkeeper.charts.rollouts import arms

__all__ = [
    "ALARM", "BLUE", "GREY", "PSI_STEPS", "SERIES", "THEMES", "Figure", "Unit", "arms", "at", "by_drift",
    "confusion", "distribution", "drift_map", "gathered", "kpi", "label_coverage", "latency", "length_of",
    "metric_over_time", "nothing", "performance_over_time", "precision_recall", "quantiles_by_period",
    "realised_and_estimated", "reliability", "roc", "shares_by_period", "shares_over_time", "title_of", "unit_of",
    "values_over_time", "volume",
]  # fmt: skip
