"""The pages of incidents and rollouts, and what people may do on them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from watchkeeper import charts, words
from watchkeeper.errors import WatchkeeperError
from watchkeeper.incidents import strength
from watchkeeper.records import (
    ALL,
    Action,
    Delivery,
    Incident,
    IncidentState,
    Reason,
    Rollout,
    RolloutState,
    Severity,
    Transition,
    place,
)
from watchkeeper.schema import MonitorConfig
from watchkeeper.server import reads
from watchkeeper.server.pages import check_choice, choices, planned
from watchkeeper.server.rendering import embedded, page
from watchkeeper.server.services import RequestError, Services, absent, services
from watchkeeper.windows import DAY, Window, floor

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Served = Annotated[Services, Depends(services)]

AROUND = timedelta(days=30)
MOST = 200
FILTERS = (("open", "Open"), ("resolved", "Resolved"), ("all", "All"))
DONE = {"acknowledged": "Acknowledged. Thank you for taking it on.", "resolved": "Resolved."}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a timeline. `link` is the address of what it is about, if that has a page."""

    at: datetime
    kind: str
    tone: str
    text: str
    why: str
    actor: str
    note: str
    link: str = ""


# Lists and pages


@router.get("/incidents")
def incidents(request: Request, served: Served, state: str = "open") -> HTMLResponse:
    check_choice("state", state, [name for name, _ in FILTERS])
    with served.state.snapshot() as tx:
        if state == "open":
            found = reads.open_incidents(tx)
        else:
            where: dict[str, Any] = {"state": "resolved"} if state == "resolved" else {}
            found = tx.select(Incident, order="-opened_at", limit=MOST, **where)
    links = choices(request, {"state": state})("state", FILTERS)
    return page(request, "incidents.html", incidents=found, state=state, links=links, most=MOST)


@router.get("/incidents/{incident}")
def incident(request: Request, served: Served, incident: str, done: str = "") -> HTMLResponse:
    return show(request, served, incident, notice=DONE.get(done, ""))


def show(
    request: Request, served: Services, name: str, *, notice: str = "", error: str = "", status: int = 200,
    actor: str = "", note: str = "",
) -> HTMLResponse:  # fmt: skip
    """An incident's page, with a message about what was just done or could not be done."""
    with served.state.snapshot() as tx:
        found = tx.select(Incident, id=name)
        if not found:
            raise absent("incident", name, [])
        story = reads.story(tx, found[0])
        signals = sorted(found[0].signals.values(), key=_weight)
        shown = _main_points(tx, found[0], signals[0]) if signals else []
        view = _main_column(tx, served, found[0], signals[0]) if signals else None
    one = found[0]
    config = served.config.models.get(one.model)
    monitors = {monitor.name: monitor for monitor, _ in planned(config)} if config else {}
    return page(
        request, "incident.html", status, incident=one, story=story, signals=[_signal(s, monitors) for s in signals],
        chart=_main_chart(shown, signals[0], monitors) if shown else None, distribution=view,
        evidence=one.evidence, samples=_samples(one.evidence), timeline=timeline(story), notice=notice, error=error,
        actor=actor, note=note, known=config is not None,
    )  # fmt: skip


def _weight(signal: dict[str, Any]) -> tuple[bool, str, float]:
    """Signals that still breach first, then the more severe, then the stronger."""
    return bool(signal.get("recovered")), signal.get("severity", Severity.P2), -strength(signal)


def _signal(signal: dict[str, Any], monitors: dict[str, MonitorConfig]) -> dict[str, Any]:
    metric, column = signal["metric"], signal["column"]
    monitor = monitors.get(signal["monitor"])
    relative = monitor.relative if monitor else None
    return {
        **signal,
        "segment": signal.get("segment", ALL),
        "place": _where(signal),
        "title": words.metric_title(metric, relative),
        "shown": words.measured(signal["value"], metric, column, relative),
        "interval": words.interval(signal.get("low"), signal.get("high"), metric, column, relative),
        "limit_shown": words.limit(signal["limit"], signal["direction"], metric, column, relative),
        "recovered": signal.get("recovered", ""),
    }


def _main_points(tx: Any, incident: Incident, signal: dict[str, Any]) -> list[Any]:
    """What the main signal's monitor measured around the incident."""
    until = (incident.resolved_at or incident.last_breach) + AROUND / 3
    since, segment = incident.since - AROUND, signal.get("segment", ALL)
    return reads.signal_points(tx, incident.model, signal["monitor"], signal["column"], segment, since, until)


def _main_chart(points: list[Any], signal: dict[str, Any], monitors: dict[str, MonitorConfig]) -> dict[str, Any]:
    monitor = monitors.get(signal["monitor"])
    relative = monitor.relative if monitor else None
    title = f"{words.metric_title(signal['metric'])} of {_where(signal)}"
    title += (
        f", {relative} to the baseline"
        if relative == "ratio"
        else f", {relative} from the baseline"
        if relative
        else ""
    )
    figure = charts.metric_over_time(
        points, signal["limit"], signal["direction"], since=datetime.fromisoformat(signal["since"]),
        relative=relative, title=title[:1].upper() + title[1:],
    )  # fmt: skip
    return embedded(figure)


def _main_column(tx: Any, served: Services, incident: Incident, signal: dict[str, Any]) -> dict[str, Any] | None:
    """For trouble with the data: the distribution at the signal's last breach, beside the baseline."""
    config = served.config.models.get(incident.model)
    if config is None or not (signal["column"] in config.features or incident.cause == "drift"):
        return None
    last = floor(datetime.fromisoformat(signal["last"]) - timedelta(microseconds=1), DAY) + DAY
    window = Window(max(last - 7 * DAY, min(floor(datetime.fromisoformat(signal["since"]), DAY), last - DAY)), last)
    segment = signal.get("segment", ALL)
    view = reads.column_view(tx, incident.model, signal["column"], segment, window, window.start)
    if view.current is None:
        return None
    title = f"{_where(signal)}, {words.window(window)}"
    return embedded(charts.distribution(view.current, view.baseline, view.grid, title))


def _where(signal: dict[str, Any]) -> str:
    return place(signal["column"], signal.get("segment", ALL))


def _samples(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """Sample predictions as tables: a heading, the names of the fields, and the rows."""
    tables = []
    for column, rows in (evidence.get("samples") or {}).items():
        if rows:
            told = dict.fromkeys(name for row in rows for name in row)
            known = {name for row in rows for name, value in row.items() if value is not None}
            names = [name for name in told if name in known or f"{column} ".startswith(f"{name} ")]
            cells = [[_cell(name, row.get(name)) for name in names] for row in rows]
            tables.append({"column": column, "names": names, "rows": cells})
    return tables


def _cell(name: str, value: Any) -> str:
    if value is None:
        return words.NONE
    if name == "event_time":
        return words.time(str(value))
    if isinstance(value, float):
        return words.number(value)
    return str(value)


@router.get("/rollouts/{rollout}")
def rollout(request: Request, served: Served, rollout: str) -> HTMLResponse:
    with served.state.snapshot() as tx:
        found = tx.select(Rollout, id=rollout)
        if not found:
            raise absent("rollout", rollout, [])
        one = found[0]
        transitions = tx.select(Transition, model=one.model, subject=one.id, order="at")
        causes = tx.select(Action, id=list(one.because)) if one.because else []
    config = served.config.models.get(one.model)
    return page(
        request, "rollout.html", rollout=one, chart=embedded(charts.arms(one.looks)), stages=_stages(one, served),
        last=one.looks[-1] if one.looks else {}, arms=_arms(one), guards=_guards(one),
        timeline=[replace(_of_transition(t), link="") for t in transitions],
        config=config.rollout if config else None,
        incidents=[name for action in causes for name in action.because if name.startswith("incident-")],
    )  # fmt: skip


def _stages(rollout: Rollout, served: Services) -> list[dict[str, Any]]:
    """Each stage that was configured, with what was looked at in it."""
    config = served.config.models.get(rollout.model)
    shares = config.rollout.stages if config else ()
    looked = {k: list(g) for k, g in groupby(rollout.looks, key=lambda look: look.get("stage", 0))}
    shares = shares or tuple(looks[0].get("share", 0.0) for looks in looked.values())
    rows = []
    for i, share in enumerate(shares):
        looks = looked.get(i, [])
        running = rollout.ended_at is None and i == rollout.stage
        state = "under way" if running else "passed" if looks and i < rollout.stage else "ended here" if looks else ""
        if rollout.state == RolloutState.PROMOTED:
            state = "reached" if i == len(shares) - 1 else "passed"
        rows.append({"share": share, "looks": looks, "state": state or "not reached", "running": running})
    return rows


def _arms(rollout: Rollout) -> list[dict[str, str]]:
    """Both arms' numbers at the last look, those that it holds."""
    last = rollout.looks[-1] if rollout.looks else {}
    labelled = [last.get(f"labelled_{arm}") for arm in ("champion", "candidate")]
    rows = [{"name": "Predictions", "champion": _whole(last, "n_champion"), "candidate": _whole(last, "n_candidate")}]
    if any(value is not None for value in labelled):
        rows.append({"name": "With their label", "champion": _number(labelled[0]), "candidate": _number(labelled[1])})
    losses = [last.get(f"loss_{arm}") for arm in ("champion", "candidate")]
    if any(isinstance(loss, (int, float)) for loss in losses):
        rows.append({"name": "Log loss", "champion": words.number(losses[0]), "candidate": words.number(losses[1])})
    return rows


def _whole(look: dict[str, Any], key: str) -> str:
    return _number(look.get(key))


def _number(value: Any) -> str:
    return f"{int(value):,}" if value is not None else words.NONE


GUARDS = {
    "error rate": ("Error rate, difference", words.share, words.set_share),
    "latency": ("Median latency, ratio", words.number, words.set_number),
    "scores": ("Distance of the scores (KS)", words.number, words.set_number),
}


def _guards(rollout: Rollout) -> list[dict[str, Any]]:
    """The guardrails at the last look: what they found and what stops the candidate."""
    last = rollout.looks[-1] if rollout.looks else {}
    rows = []
    for key, (name, form, stops) in GUARDS.items():
        found = last.get(key)
        if isinstance(found, dict):
            held = found.get("low") is None or found["low"] <= found["limit"]
            interval = f"{form(found.get('low'))} to {form(found.get('high'))}"
            rows.append(
                {"name": name, "value": form(found.get("value")), "interval": interval, "limit": stops(found["limit"]),
                 "held": held}
            )  # fmt: skip
    return rows


# Timelines


def timeline(story: reads.Story) -> list[Entry]:
    """Everything that happened because of an incident, oldest first."""
    names = {a.id: words.ACTIONS.get(a.kind, a.kind.capitalize()) for a in story.actions}
    told = {t.subject for t in story.transitions}
    entries = [_of_transition(t, names.get(t.subject, "")) for t in story.transitions]
    entries += [e for d in story.deliveries for e in _of_delivery(d)]
    entries += [e for a in story.actions if a.id not in told for e in _of_action(a, names[a.id])]
    order = ("incident", "notice", "action", "rollout")
    return sorted(entries, key=lambda e: (e.at, order.index(e.kind) if e.kind in order else len(order)))


def _of_transition(row: Transition, action: str = "") -> Entry:
    kind = row.subject.split("-")[0]
    rollout = next((name for name in (row.subject, *row.because) if name.startswith("rollout-")), "")
    link = f"/rollouts/{rollout}" if rollout else ""
    state = row.after.rstrip("0123456789% ")
    steps = {"incident": _incident_step, "rollout": _rollout_step}
    text = steps[kind](row) if kind in steps else f"{action or 'Action'} {row.after}"
    began = kind == "rollout" and row.before == "new"
    why = "" if began else words.sentence(row.reason)
    return Entry(row.at, kind, words.tone(state), text, why, row.actor, row.note, link)


def _incident_step(row: Transition) -> str:
    if row.before == row.after:
        worse = row.reason is Reason.BREACH_WORSENS
        return f"Severity raised to {row.severity}" if worse else "More is affected"
    if row.after == IncidentState.OPEN:
        return "Incident reopened" if row.before == IncidentState.RESOLVED else "Incident opened"
    return f"Incident {row.after}"


def _rollout_step(row: Transition) -> str:
    state = row.after.rstrip("0123456789% ")
    if state == RolloutState.RUNNING:
        return "Rollout began" if row.before == "new" else "Next stage of the rollout"
    return f"Candidate {state}"


def _of_delivery(row: Delivery) -> list[Entry]:
    at = row.sent_at or row.next_attempt
    text = {
        "sent": f"Notice sent to {row.channel}",
        "failed": f"Notice to {row.channel} failed for good",
    }.get(row.state, f"Notice to {row.channel} is waiting to be sent")
    tries = f"{row.attempts} attempts" if row.attempts > 1 else ""
    why = "; ".join(x for x in (tries, row.error) if x)
    return [Entry(at, "notice", words.tone(row.state), text, why, "", "")]


def _of_action(row: Action, name: str) -> list[Entry]:
    entries = [Entry(row.planned_at, "action", "info", f"{name} asked for", words.sentence(row.reason), "", "")]
    if row.ended_at:
        said = row.detail.get("note") or row.detail.get("version") or ""
        entries.append(
            Entry(
                row.ended_at,
                "action",
                words.tone(row.state),
                f"{name} {row.state}",
                words.sentence(row.reason),
                "",
                str(said),
            )
        )
    return entries


# What people do


@router.post("/incidents/{incident}/acknowledge")
def acknowledge(
    request: Request, served: Served, incident: str, actor: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "", token: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    return _decide(request, served, incident, "acknowledged", actor, note, token)


@router.post("/incidents/{incident}/resolve")
def resolve(
    request: Request, served: Served, incident: str, actor: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "", token: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    return _decide(request, served, incident, "resolved", actor, note, token)


def _decide(request: Request, served: Services, name: str, what: str, actor: str, note: str, token: str) -> Response:
    came_from_here(request, served, token)
    actor, note = actor.strip()[:80], note.strip()[:2000]
    with served.state.snapshot() as tx:
        found = tx.select(Incident, id=name)
    if not found:
        raise absent("incident", name, [])
    state = found[0].state
    problem, status = "", 409
    if not actor:
        problem, status = "Write your name, so that others know who decided.", 422
    elif state is IncidentState.RESOLVED:
        problem = "This incident is resolved already; nothing was changed."
    elif what == "acknowledged" and state is IncidentState.ACKNOWLEDGED:
        problem = f"This incident is acknowledged already, by {found[0].owner or 'somebody else'}; nothing was changed."
    if not problem:
        try:
            act = served.operations.acknowledge if what == "acknowledged" else served.operations.resolve
            act(name, actor, note)
        except WatchkeeperError as error:
            problem = f"Nothing was changed: {error}"
    if problem:
        return show(request, served, name, error=problem, status=status, actor=actor, note=note)
    return RedirectResponse(f"/incidents/{name}?done={what}", 303)


def came_from_here(request: Request, served: Services, token: str) -> None:
    """Refuse a form that another site sent: its origin must be this host, and it must carry this process's token."""
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    foreign = site not in ("", "same-origin", "none")
    foreign = foreign or (bool(origin) and urlsplit(origin).netloc != request.headers.get("host", ""))
    if foreign or not secrets.compare_digest(token.encode(), served.token.encode()):
        raise RequestError(
            403, "this form did not come from a page of this server", "open the page again and repeat it"
        )
