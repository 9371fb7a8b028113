"""Baselines: what is kept of a reference compares like the reference itself, and lasts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from watchkeeper.comparison import compare
from watchkeeper.comparison.baselines import Baseline, profile
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.profiles import merge
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig, MonitorConfig


def rows(seed: int, shift: float = 0.0, count: int = 2000) -> pa.Table:
    chance = np.random.default_rng(seed)
    words = np.array(["late", "parcel", "where", "is", "my", "order"])
    return pa.table(
        {
            "id": [f"r{seed}-{i}" for i in range(count)],
            "temp": chance.normal(shift, 1, count),
            "wet": chance.random(count) < 0.3,
            "origin": chance.choice(["EWR", "JFK"], count),
            "when": pa.array(chance.integers(1_600_000_000, 1_700_000_000, count), pa.timestamp("s")),
            "note": [" ".join(chance.choice(words, 4 + chance.integers(5))) for _ in range(count)],
            "tags": [["a"]] * count,
        }
    )


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_a_baseline_compares_like_the_table_it_was_made_of(tmp_path: Path, shift: float) -> None:
    reference, current = rows(1), rows(2, shift)
    path = tmp_path / "train.baseline"
    profile(reference).save(path)
    expected = compare(reference, current).to_dict()
    assert expected["healthy"] is (shift == 0)
    for kept in (profile(reference), Baseline.load(path), path, str(path)):
        assert compare(kept, current).to_dict() == expected


def test_a_baseline_keeps_no_rows_and_little_else(tmp_path: Path) -> None:
    path = tmp_path / "train.baseline"
    profile(rows(1)).save(path)
    text = path.read_text(encoding="utf-8")
    assert "r1-0" not in text
    assert "parcel" not in text
    assert len(text) < 60_000


def test_a_baseline_keeps_its_configuration(tmp_path: Path) -> None:
    monitor = MonitorConfig(name="temp", metric="ks", columns=("temp",), above=0.3)
    config = ModelConfig(columns={"temp": ColumnConfig(kind=Kind.NUMERIC, missing=(-1,))}, monitors=(monitor,))
    path = tmp_path / "train.baseline"
    profile(rows(1), config=config).save(path)
    current = rows(2, 0.6)
    assert Baseline.load(path).config == config
    assert compare(path, current).to_dict() == compare(rows(1), current, config=config).to_dict()


def test_what_a_baseline_has_already_cannot_be_given_again() -> None:
    kept = profile(rows(1), columns=["temp"])
    assert {look.column for look in compare(kept, rows(2)).points} == {"temp"}
    config = ModelConfig(columns={"temp": ColumnConfig(kind=Kind.NUMERIC)})
    for more in ({"columns": ["temp"]}, {"segments": ["origin"]}, {"config": config}):
        with pytest.raises(ConfigError, match="give them to `profile` instead"):
            compare(kept, rows(2), **more)  # type: ignore[arg-type]


def test_a_baseline_shows_itself_in_a_line() -> None:
    assert repr(profile(rows(1))) == f"Baseline({len(profile(rows(1)).columns)} columns of {len(rows(1)):,} rows)"


def _changed(**body: Any) -> str:
    return json.dumps({"format": 1, "config": None, **body})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no baseline, or a damaged one; make it anew from the reference"),
        ("[1]", "is no baseline, or a damaged one"),
        (_changed(), "is no baseline, or a damaged one"),
        (_changed(format=99), "is of format 99; this release reads format 1"),
        (_changed(columns={"a": {"kind": "odd"}}), "is no baseline, or a damaged one"),
    ],
)
def test_a_file_that_is_no_baseline_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "odd.baseline"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        compare(path, rows(1))


def test_a_baseline_that_is_not_there_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        compare(tmp_path / "no.baseline", rows(1))
    with pytest.raises(DataError, match="cannot be written: No such file"):
        profile(rows(1)).save(tmp_path / "no" / "train.baseline")
    with pytest.raises(DataError, match=r'whose name ends in "\.baseline", found'):
        profile(rows(1)).save(tmp_path / "train.json")


def test_a_column_that_is_nowhere_what_it_should_be_is_left_out() -> None:
    config = ModelConfig(columns={name: ColumnConfig(kind=Kind.NUMERIC) for name in ("temp", "origin")})
    kept = profile(rows(1), config=config)
    assert kept.skipped == {"origin": "it is numeric in the configuration, and nothing in the reference is"}
    assert {look.column for look in compare(kept, rows(2)).points} == {"temp"}


# segments


def parted(seed: int, shift: float = 0.0, count: int = 6000) -> pa.Table:
    """Two countries and two devices; only the phones of one country shift."""
    chance = np.random.default_rng(seed)
    country, device = chance.choice(["NL", "BE"], count, p=[0.8, 0.2]), chance.choice(["web", "phone"], count)
    moved = shift * ((country == "BE") & (device == "phone"))
    return pa.table({"country": country, "device": device, "temp": chance.normal(0, 1, count) + moved})


def test_a_change_within_a_segment_is_found_and_named_though_the_whole_is_healthy(tmp_path: Path) -> None:
    path = tmp_path / "train.baseline"
    profile(parted(1), segments=["country", ("country", "device")]).save(path)
    found = compare(path, parted(2, 0.6))
    assert {look.segment for look in found.breaches} == {"country=BE", "country=BE, device=phone"}
    assert {look.column for look in found.breaches} == {"temp"}
    assert all("country=BE" in line for line in repr(found).splitlines()[1:])
    assert compare(path, parted(3)).healthy
    whole = compare(parted(1), parted(2, 0.6))
    assert whole.healthy
    assert {look.segment for look in whole.points} == {""}


def test_segments_add_up_to_the_whole_and_cost_the_other_looks_their_share() -> None:
    kept = profile(parted(1), segments=["country"])
    assert sorted(kept.parted) == ["country=(missing)", "country=(other)", "country=BE", "country=NL"]
    for name, whole in kept.profiles.items():
        merged = merge(kept.parted[segment][name] for segment in sorted(kept.parted))
        assert merged is not None
        assert merged.to_bytes() == whole.to_bytes()
    apart, alone = compare(kept, parted(2)), compare(parted(1), parted(2))
    wide, narrow = (next(p for p in c.points if (p.metric, p.segment) == ("ks", "")) for c in (apart, alone))
    assert wide.high is not None
    assert narrow.high is not None
    assert wide.high > narrow.high


def test_segments_that_cannot_be_made_are_told() -> None:
    with pytest.raises(ConfigError, match='segments are made of categorical columns, and "temp" is none'):
        compare(parted(1), parted(2), segments=["temp"])
    with pytest.raises(ConfigError, match=r'segments are a list of columns, found "country"; write \["country"\]'):
        compare(parted(1), parted(2), segments="country")
    with pytest.raises(ConfigError, match=r'"temp" is none; the categorical columns are country, device'):
        compare(parted(1), parted(2), segments=["temp"])
    config = ModelConfig(columns={"temp": ColumnConfig(kind=Kind.NUMERIC)})
    with pytest.raises(ConfigError, match="segments are given twice"):
        compare(parted(1), parted(2), config=config, segments=["country"])
    found = compare(parted(1), parted(2).drop_columns("country"), segments=["country"])
    assert found.skipped["segments by country"] == "the current data lacks a column of these"
    assert {look.segment for look in found.points} == {""}
