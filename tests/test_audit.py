"""Checkpoints of the audit record: whatever is done to entries that were sealed is found out."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from seals import KEY, PRIVATE_PEM, PUBLIC_PEM
from watchkeeper import audit
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.records import AuditEntry
from watchkeeper.settings import AuditConfig
from watchkeeper.store.state import State

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def record(count: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for seq in range(1, count + 1):
        last = entries[-1].hash if entries else ""
        entries.append(AuditEntry(seq, NOON + seq * DAY, "anna", "note", f"incident-{seq}", {"n": seq}, last).sealed())
    return entries


def chained(entries: list[AuditEntry], since: int = 0) -> list[AuditEntry]:
    """The entries numbered and linked anew from a place on, as somebody would who could write to the store."""
    done = entries[:since]
    for entry in entries[since:]:
        done.append(replace(entry, seq=len(done) + 1, previous=done[-1].hash if done else "").sealed())
    return done


def checkpoint(entries: list[AuditEntry], key: Ed25519PrivateKey = KEY) -> audit.Checkpoint:
    return audit.Checkpoint(entries[-1].seq, entries[-1].hash, entries[-1].at).signed(key)


def problems(entries: list[AuditEntry], *checkpoints: audit.Checkpoint) -> list[str]:
    return audit.examine(entries, checkpoints, KEY.public_key()).problems


def test_a_record_as_it_was_sealed_is_whole() -> None:
    entries = record(5)
    found = audit.examine(entries[::-1], [checkpoint(entries[:3]), checkpoint(entries[:4])], KEY.public_key())
    assert found == audit.Findings(entries=5, sealed=4, checkpoints=2)


@given(st.integers(0, 5), st.sampled_from(["change", "remove", "move", "insert"]), st.booleans())
def test_no_alteration_of_what_was_sealed_stays_unseen(place: int, how: str, mended: bool) -> None:
    entries = record(6)
    sealed = checkpoint(entries)
    altered = [*entries]
    if how == "change":
        altered[place] = replace(altered[place], actor="nobody")
    elif how == "remove":
        del altered[place]
    elif how == "move":
        other = (place + 1) % len(entries)
        altered[place], altered[other] = (
            replace(entries[other], seq=entries[place].seq),
            replace(entries[place], seq=entries[other].seq),
        )
    else:
        altered.insert(place, replace(altered[place], subject="incident-new"))
    if mended:
        altered = chained(altered)
    assert problems(altered, sealed)


def test_a_record_cut_off_at_its_end_is_found_by_its_checkpoint_alone() -> None:
    entries = record(5)
    assert problems(entries[:3]) == []
    assert problems(entries[:3], checkpoint(entries)) == ["entry 5 is missing, which was there on 2024-03-06 12:00 UTC"]


def test_a_record_written_anew_is_found_by_its_checkpoint_alone() -> None:
    entries = record(5)
    anew = chained([replace(entry, actor="nobody") for entry in entries])
    assert problems(anew) == []
    assert problems(anew, checkpoint(entries[:4])) == [
        "entry 4 is another one than on 2024-03-05 12:00 UTC, when it was sealed"
    ]


def test_a_checkpoint_by_another_key_or_of_another_entry_is_none() -> None:
    entries = record(3)
    ours = checkpoint(entries)
    wrong = f"the checkpoint of 2024-03-04 12:00 UTC is not signed by the key {audit.fingerprint(KEY.public_key())}"
    assert problems(entries, checkpoint(entries, OTHER)) == [wrong]
    assert problems(entries, replace(ours, signature="")) == [wrong]
    assert problems(entries, replace(ours, signature="no hex")) == [wrong]
    cut = entries[:2]
    assert problems(cut, replace(ours, seq=2, hash=cut[-1].hash)) == [wrong]


def test_what_was_sealed_before_an_erasure_is_told_apart() -> None:
    entries = record(4)
    old = [checkpoint(entries[:1]), checkpoint(entries)]
    blotted = [entries[0], replace(entries[1], subject="(erased)"), *entries[2:]]
    erased = AuditEntry(5, NOON, "anna", "erasure", "digest", {"state": {"resealed_from": 2}}, "")
    anew = chained([*blotted, erased], since=1)
    found = audit.examine(anew, [*old, checkpoint(anew)], KEY.public_key())
    assert found == audit.Findings(entries=5, sealed=5, checkpoints=3, superseded=1)
    silent = chained(blotted, since=1)
    assert problems(silent, *old) == ["entry 4 is another one than on 2024-03-05 12:00 UTC, when it was sealed"]


def test_checkpoints_are_made_in_time_and_only_of_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAL", PRIVATE_PEM)
    state = State(tmp_path / "state.db")
    seals = audit.Checkpoints(tmp_path, AuditConfig(key="env:SEAL", every="1d"))
    assert seals.make(state, NOON) is None, "there is nothing to seal"

    def add(at: datetime) -> None:
        with state.transaction() as tx:
            tx.audit(at, "anna", "note", "incident-1", {})

    add(NOON)
    first = seals.make(state, NOON)
    assert first is not None
    assert first.is_signed_by(KEY.public_key())
    assert seals.make(state, NOON + 2 * DAY) is None, "nothing was added"
    add(NOON + 2 * DAY)
    assert seals.make(state, NOON + DAY / 2) is None, "the last one is young"
    second = seals.make(state, NOON + DAY / 2, at_once=True)
    add(NOON + 3 * DAY)
    third = seals.make(state, NOON + 2 * DAY)
    assert audit.read(seals.path) == [first, second, third]
    with state.snapshot() as tx:
        found = audit.examine(tx.audit_trail(), audit.read(seals.path), KEY.public_key())
    assert found == audit.Findings(entries=3, sealed=3, checkpoints=3)
    state.close()


def test_without_a_key_no_checkpoints_are_made(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction() as tx:
        tx.audit(NOON, "anna", "note", "incident-1", {})
    assert audit.Checkpoints(tmp_path, AuditConfig()).make(state, NOON) is None
    assert not (tmp_path / audit.FILE).exists()
    state.close()


def test_a_key_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("SEAL", "0123456789abcdef" * 4)
    with pytest.raises(ConfigError, match="env:SEAL holds no Ed25519 private key in PEM; make one with openssl"):
        audit.Checkpoints(store, AuditConfig(key="env:SEAL"))
    inside = store / "key.pem"
    store.mkdir()
    inside.write_text(PRIVATE_PEM)
    with pytest.raises(ConfigError, match="lies in the store"):
        audit.Checkpoints(store, AuditConfig(key=f"file:{inside}"))
    private = tmp_path / "private.pem"
    private.write_text(PRIVATE_PEM)
    with pytest.raises(DataError, match="openssl pkey -pubout"):
        audit.public_key(private)
    public = tmp_path / "public.pem"
    public.write_bytes(PUBLIC_PEM)
    assert audit.public_key(public).public_bytes_raw() == KEY.public_key().public_bytes_raw()


def test_files_hold_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    entries, file = record(3), tmp_path / "record.ndjson"
    file.write_text("".join(map(audit.line, entries)))
    assert audit.read_entries(file) == entries
    for broken in ("", "[]", "{}", "nonsense", json.dumps({"seq": 1})):
        file.write_text(audit.line(entries[0]) + broken + "\n")
        with pytest.raises(DataError, match=r"record\.ndjson, line 2: is no entry of an audit record"):
            audit.read_entries(file)
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        audit.read_entries(tmp_path / "nowhere")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_others_can_check_a_signature_too(tmp_path: Path) -> None:
    one = checkpoint(record(3))
    (tmp_path / "public.pem").write_bytes(PUBLIC_PEM)
    (tmp_path / "message").write_bytes(one.message)
    (tmp_path / "signature").write_bytes(bytes.fromhex(one.signature))
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "message",
         "-sigfile", "signature"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Signature Verified Successfully" in done.stdout
