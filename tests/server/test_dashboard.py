"""The pages as HTML: what they say, what they refuse, and that they are safe to open."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fraud_story
import httpx
import live
import pytest

from small_world import World, config
from watchkeeper.engine import Engine
from watchkeeper.records import Incident, IncidentState
from watchkeeper.schema import Config
from watchkeeper.server.app import create_app
from watchkeeper.store.state import State

MODEL = "/models/checkout-fraud"


def text(html: str) -> str:
    plain = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", plain)).split())


def figures(html: str) -> list[dict[str, object]]:
    return [
        json.loads(block) for block in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    ]


def token(html: str) -> str:
    return re.search(r'name="token" value="([^"]+)"', html)[1]  # type: ignore[index]


class Balanced(HTMLParser):
    """Fails on an element that is not closed, or closed twice."""

    VOID = frozenset({"meta", "link", "input", "img", "br", "path", "circle", "rect", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


# Every page


@pytest.fixture(scope="session")
def paths(ids: fraud_story.Ids) -> list[str]:
    return [
        "/", MODEL, f"{MODEL}?metric=auc&days=14", "/models/eta", "/models/search-ranking",
        f"{MODEL}/columns/amount", f"{MODEL}/columns/country?day=2024-03-20&days=1", f"{MODEL}/columns/score",
        f"{MODEL}/columns/latency_ms", f"{MODEL}/columns/status", "/models/search-ranking/columns/position",
        "/incidents", "/incidents?state=resolved", "/incidents?state=all",
        f"/incidents/{ids.sentinel}", f"/incidents/{ids.drift}", f"/incidents/{ids.missing}",
        f"{MODEL}/curves", f"{MODEL}/curves?days=90", "/models/search-ranking/curves",
        f"/rollouts/{ids.rollout}", f"/rollouts/{ids.waiting}",
    ]  # fmt: skip


def test_every_page_is_well_formed_and_keeps_to_its_policy(http: httpx.Client, paths: list[str]) -> None:
    for path in paths:
        found = http.get(path)
        assert found.status_code == 200, path
        assert "script-src" not in found.headers["content-security-policy"]
        assert "default-src 'self'" in found.headers["content-security-policy"]
        assert found.headers["x-content-type-options"] == "nosniff"
        parser = Balanced()
        parser.feed(found.text)
        assert parser.open == [], path
        assert not re.search(r"<script(?![^>]*(src=|application/json))", found.text), f"{path}: a script in the page"
        assert not re.search(r'\sstyle="|<style|\son\w+="', found.text), f"{path}: a style or handler in the page"
        assert not re.search(r'(src|href)="(https?:)?//', found.text), f"{path} asks another host"
        for identifier in (names := re.findall(r'\sid="([^"]+)"', found.text)):
            assert names.count(identifier) == 1, f"{path}: two elements are called {identifier}"


def test_every_link_leads_somewhere(http: httpx.Client, paths: list[str]) -> None:
    links = {unescape(link) for path in paths for link in re.findall(r'href="(/[^"]*)"', http.get(path).text)}
    assert len(links) > 30
    broken = [link for link in links if http.get(link).status_code != 200]
    assert not broken


def test_a_page_takes_little_time(http: httpx.Client, paths: list[str]) -> None:
    for path in paths:
        assert min(http.get(path).elapsed.total_seconds() for _ in range(3)) < 1.0, path


def test_every_time_says_that_it_is_utc(http: httpx.Client, paths: list[str]) -> None:
    for path in paths:
        for table in re.findall(r"<table.*?</table>", http.get(path).text, re.DOTALL):
            if re.search(r"\d{4}-\d\d-\d\d", table):
                assert "UTC" in table, path


# The fleet


def test_the_fleet_puts_the_model_in_need_first(http: httpx.Client) -> None:
    shown = text(http.get("/").text)
    places = [shown.index(name) for name in ("checkout-fraud", "search-ranking", "eta champion")]
    assert places == sorted(places)
    assert "P1 incident checkout-fraud champion 2024-04 since 2024-04-" in shown
    assert "no data search-ranking no champion yet" in shown
    assert "Sentinel values 1 breach 4 healthy" in shown


def test_an_empty_fleet_says_what_to_do(tmp_path: Path) -> None:
    class Nothing:
        config = Config(models={})

        def acknowledge(self, incident_id: str, actor: str, note: str) -> None: ...
        def resolve(self, incident_id: str, actor: str, note: str) -> None: ...

    state = State(tmp_path / "state.db")
    app = create_app(state, clock=lambda: datetime(2024, 1, 1, tzinfo=UTC), operations=Nothing(), keyless=True)
    with live.serving(app) as url:
        shown = text(httpx.get(url).text)
    state.close()
    assert "Nothing is watched yet" in shown
    assert "watchkeeper.yaml" in shown
    assert "wk.Client" in shown


# A model


def test_a_model_shows_performance_by_version_with_its_new_champion(http: httpx.Client) -> None:
    performance = figures(http.get(MODEL).text)[0]
    names = {trace["name"] for trace in performance["data"]}  # type: ignore[index,union-attr]
    versions = {"version 2024-02", "version 2024-04"}
    provisional = {f"{name}, provisional{more}" for name in versions for more in ("", " band", ", not corrected")}
    assert names == versions | provisional | {f"{name}, estimated" for name in versions}
    assert [a["text"] for a in performance["layout"]["annotations"]] == ["champion 2024-04"]  # type: ignore[index,call-overload]


def test_another_metric_is_a_link_away(http: httpx.Client) -> None:
    page = http.get(f"{MODEL}?metric=auc").text
    assert "AUC of each version" in page
    assert (
        '<a href="/models/checkout-fraud?metric=auc&amp;drift=psi&amp;days=90#metric" aria-current="true">AUC</a>'
        in page
    )


def test_the_drift_map_has_the_strongest_feature_on_top(http: httpx.Client) -> None:
    found = figures(http.get(MODEL).text)
    heat = next(trace for figure in found for trace in figure["data"] if trace["type"] == "heatmap")  # type: ignore[union-attr,index,call-overload]
    assert heat["y"][0] == "amount"
    assert len(heat["y"]) == 7


def test_monitors_tell_their_limit_their_confidence_and_why(http: httpx.Client) -> None:
    shown = text(http.get(MODEL).text)
    known = "input drift P2 population stability index against the reference 7 columns above 0.25 7 days"
    assert re.search(known + r" 99\.[5-9]\d", shown)
    assert "The whole interval lies outside the limit" in shown


def test_a_column_shows_its_window_and_its_baseline(http: httpx.Client) -> None:
    shown = text(http.get(f"{MODEL}/columns/account_age_days?day=2024-03-23&days=2").text)
    assert "account_age_days, 2024-03-22 to 2024-03-23 UTC" in shown
    assert re.search(r"Rows 800 6,000", shown)
    assert re.search(r"Share of missing values (2\d|3\d)\.\d", shown)


def test_a_categorical_column_shows_shares_in_the_baselines_order(http: httpx.Client) -> None:
    first = figures(http.get(f"{MODEL}/columns/country").text)[0]
    baseline = next(trace for trace in first["data"] if trace["name"] == "baseline")  # type: ignore[union-attr,index,call-overload]
    assert baseline["y"] == sorted(baseline["y"], reverse=True)
    assert baseline["x"][0] == "DE"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nowhere", 404, "There is nothing at this address"),
        ("/models/checkout-fruad", 404, 'Did you mean "checkout-fraud"?'),
        (f"{MODEL}/columns/amuont", 404, 'Did you mean "amount"?'),
        (f"{MODEL}/columns/amount?day=yesterday", 422, "write it as 2013-07-04"),
        (f"{MODEL}/columns/amount?days=0", 422, "Days must be 1 to 366"),
        (f"{MODEL}/columns/amount?days=many", 422, "days"),
        (f"{MODEL}?metric=aucc", 404, 'Did you mean "auc"?'),
        ("/incidents/incident-000000000000", 404, "There is no incident"),
        ("/rollouts/rollout-000000000000", 404, "There is no rollout"),
        ("/incidents?state=odd", 404, "There is no state"),
    ],
)
def test_a_mistaken_address_is_explained(http: httpx.Client, path: str, status: int, said: str) -> None:
    found = http.get(path)
    assert found.status_code == status
    assert said.lower() in text(found.text).lower()
    assert "Back to the models" in text(found.text)


# Incidents


def test_an_incident_tells_its_story(http: httpx.Client, ids: fraud_story.Ids) -> None:
    shown = text(http.get(f"/incidents/{ids.drift}").text)
    for said in (
        "Drift: amount", "P2", "What we know", "Data issue", "above 0.25", "Sample predictions: amount",
        "Incident opened by watchkeeper", "Notice sent to on-call", "Retraining asked for", "Candidate promoted",
        "Incident resolved by watchkeeper A new model with a new baseline took over",
    ):  # fmt: skip
        assert said in shown


def test_a_resolved_incident_asks_for_nothing(http: httpx.Client, ids: fraud_story.Ids) -> None:
    page = http.get(f"/incidents/{ids.missing}").text
    assert "<form" not in page
    assert "Lasted" in page


def test_a_rollout_shows_its_arms_and_why_it_ended(http: httpx.Client, ids: fraud_story.Ids) -> None:
    shown = text(http.get(f"/rollouts/{ids.rollout}").text)
    assert "Promoted: the candidate's arm is not worse than the champion's by more than the margin" in shown
    assert "Guardrails" in shown
    assert ids.drift in shown


# What people do


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Engine, fraud_story.Ids, httpx.Client]]:
    """A store of its own, to decide things in."""
    with (
        live.story(tmp_path / "store") as (engine, ids),
        live.serving(live.application(engine)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield engine, ids, http


def state_of(engine: Engine, incident: str) -> Incident:
    with engine.state.transaction() as tx:
        return tx.get(Incident, incident)


def test_acknowledge_then_resolve(desk: tuple[Engine, fraud_story.Ids, httpx.Client]) -> None:
    engine, ids, http = desk
    path = f"/incidents/{ids.sentinel}"
    form = {"actor": " Ada ", "note": "looking <b>into</b> it", "token": token(http.get(path).text)}
    done = http.post(f"{path}/acknowledge", data=form, headers={"origin": str(http.base_url).rstrip("/")})
    assert (done.status_code, done.headers["location"]) == (303, f"{path}?done=acknowledged")
    assert (state_of(engine, ids.sentinel).state, state_of(engine, ids.sentinel).owner) == (
        IncidentState.ACKNOWLEDGED,
        "Ada",
    )
    page = http.get(done.headers["location"]).text
    assert "Acknowledged. Thank you" in page
    assert "looking &lt;b&gt;into&lt;/b&gt; it" in page

    again = http.post(f"{path}/acknowledge", data=form)
    assert again.status_code == 409
    assert "acknowledged already, by Ada" in text(again.text)

    assert http.post(f"{path}/resolve", data=form | {"note": "fixed"}).status_code == 303
    assert state_of(engine, ids.sentinel).state is IncidentState.RESOLVED
    late = http.post(f"{path}/resolve", data=form)
    assert late.status_code == 409
    assert "resolved already; nothing was changed" in text(late.text)


def test_a_decision_needs_a_name_and_keeps_the_note(desk: tuple[Engine, fraud_story.Ids, httpx.Client]) -> None:
    engine, ids, http = desk
    path = f"/incidents/{ids.sentinel}"
    form = {"actor": "  ", "note": "a long story", "token": token(http.get(path).text)}
    found = http.post(f"{path}/resolve", data=form)
    assert found.status_code == 422
    assert "Write your name" in text(found.text)
    assert "a long story</textarea>" in found.text
    assert state_of(engine, ids.sentinel).state is IncidentState.OPEN


@pytest.mark.parametrize(
    ("headers", "good_token"),
    [
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({}, False),
    ],
)
def test_a_form_of_another_site_is_refused(
    http: httpx.Client, engine: Engine, ids: fraud_story.Ids, headers: dict[str, str], good_token: bool
) -> None:
    path = f"/incidents/{ids.sentinel}"
    form = {"actor": "eve", "token": token(http.get(path).text) if good_token else "guess"}
    assert http.post(f"{path}/resolve", data=form, headers=headers).status_code == 403
    assert state_of(engine, ids.sentinel).state is IncidentState.OPEN


def test_a_decision_on_nothing_is_not_found(http: httpx.Client, ids: fraud_story.Ids) -> None:
    form = {"actor": "ada", "token": token(http.get(f"/incidents/{ids.sentinel}").text)}
    assert http.post("/incidents/incident-000000000000/resolve", data=form).status_code == 404


# Files


def test_files_are_kept_for_a_year_and_packed(http: httpx.Client, ids: fraud_story.Ids) -> None:
    page = http.get(MODEL).text
    addresses = set(re.findall(r'"(/static/[^"]+)"', page))
    names = {address.rsplit("/", 1)[1] for address in addresses}
    assert names == {"mark.svg", "style.css", "theme.js", "page.js", "plotly.js", "charts.js"}
    for address in addresses:
        found = http.get(address)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
        assert found.headers["content-encoding"] == "gzip"
    assert b"plotly.js" in http.get(next(a for a in addresses if "plotly" in a)).content[:60]


def test_only_own_files_are_served(http: httpx.Client) -> None:
    for path in ("/static/x/nothing.js", "/static/x/..%2Fapp.py", "/static/x/app.py", "/static/style.css"):
        found = http.get(path)
        assert found.status_code == 404
        assert "error" in found.json()
    stale = http.get("/static/000000000000/style.css", headers={"accept-encoding": "identity"})
    assert (stale.status_code, stale.headers["cache-control"]) == (200, "no-cache")


# Segments


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, httpx.Client]]:
    """A world in which the amounts of one country went missing, and nothing else."""
    gaps = {"name": "gaps", "metric": "null_rate", "columns": ["amount"], "above": 0.4, "segments": True}
    world = World(tmp_path_factory.mktemp("parted"), config(segments=["country"], monitors=[gaps]))
    world.day(0)
    world.day(1, change=_no_amounts_in_france)
    world.at(2)
    with live.serving(live.application(world.engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield world, http
    world.engine.close()


def _no_amounts_in_france(event: dict[str, Any]) -> None:
    if event["features"]["country"] == "FR":
        event["features"]["amount"] = None


def test_an_incident_of_a_segment_names_it_everywhere(parted: tuple[World, httpx.Client]) -> None:
    world, http = parted
    html = http.get(f"/incidents/{world.incident('missing values').id}").text
    said = text(html)
    assert "Missing values: amount in country=FR" in said
    assert "amount in country=FR: share of missing values 1, limit 0.4, since 2024-01-02 UTC" in said
    assert "Sample predictions: amount in country=FR" in said
    assert "<th>amount</th>" in html, "though none of the samples has one"
    assert "/models/loans/columns/amount?day=2024-01-03&amp;segment=country%3DFR" in html
    assert 'aria-label="Chart: Share of missing values of amount in country=FR"' in html
    assert 'aria-label="Chart: amount in country=FR, 2024-01-02 UTC"' in html


def test_the_page_of_a_model_counts_all_rows_and_names_the_segments_that_breach(
    parted: tuple[World, httpx.Client],
) -> None:
    _, http = parted
    html = http.get("/models/loans").text
    said = text(html)
    assert "share of missing values amount, and in segments" in said
    assert "amount in country=FR" in said
    assert "country=NL" not in said, "what is well is not listed by the hundred"
    assert "1 breach 1 healthy" in said


def test_the_page_of_a_column_shows_one_segment_where_asked(parted: tuple[World, httpx.Client]) -> None:
    _, http = parted
    address = "/models/loans/columns/amount"
    shown = {
        s: text(http.get(address, params={"segment": s, "days": 1, "day": "2024-01-02"}).text)
        for s in ("", "country=FR")
    }
    assert "amount in country=FR numeric feature of loans" in shown["country=FR"]
    assert "Rows 67 335" in shown["country=FR"]
    assert "Rows 200 1,000" in shown[""]
    assert http.get(address, params={"segment": "country=FR"}).text.count("<option selected>country=FR</option>") == 1
    assert http.get(address, params={"segment": "country=XX"}).status_code == 404


def test_the_service_and_the_business_have_sections_with_what_was_measured(http: httpx.Client) -> None:
    html = http.get(MODEL).text
    shown = text(html)
    assert "Availability Error rate Timeouts Fallbacks" in shown
    for title in ("Errors, timeouts, fallbacks", "Processor time of a prediction", "Cost of a prediction"):
        assert title in shown
    assert "Cost of predictions" in shown
    assert re.search(r"Cost of a prediction 0\.00[23]\d* ", shown)
