"""Checkpoints of the audit record: signatures without which nobody can cut its end off or write it anew unseen.

Each entry of the record holds the hash of the one before, so an entry that was changed, taken out or moved breaks the
chain (`store.state.verify`). A checkpoint is an Ed25519 signature (RFC 8032) of the number and the hash of the entry
that was the latest, by a key that lies outside of the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from watchkeeper.errors import ConfigError, DataError
from watchkeeper.records import AuditEntry
from watchkeeper.settings import AuditConfig
from watchkeeper.store.backends import overwrite
from watchkeeper.store.privacy import secret
from watchkeeper.store.state import State, verify

FILE = "audit-checkpoints.ndjson"
MAKE_ONE = "make one with openssl genpkey -algorithm ed25519"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the record was at a moment: entry `seq` was the latest, and `hash` its hash. `key` is the first half of the
    SHA-256 of the public key whose private one made the `signature`; both are hex digits."""

    seq: int
    hash: str
    at: datetime
    key: str = ""
    signature: str = ""

    @property
    def message(self) -> bytes:
        """What is signed."""
        return f"watchkeeper audit {self.seq} {self.hash} {self.at.astimezone(UTC).isoformat()}".encode()

    def signed(self, key: Ed25519PrivateKey) -> Checkpoint:
        return replace(self, key=fingerprint(key.public_key()), signature=key.sign(self.message).hex())

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes.fromhex(self.signature), self.message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass
class Findings:
    """What an examination of the record found.

    Attributes:
        entries: how many there are.
        problems: in words, what cannot be if nobody altered the record; empty if all is well.
        sealed: the number of the last entry that a checkpoint vouches for, 0 for none.
        checkpoints: how many there are.
        superseded: those of them that were made before an erasure sealed the record anew, and vouch for nothing since.
    """

    entries: int
    problems: list[str] = field(default_factory=list)
    sealed: int = 0
    checkpoints: int = 0
    superseded: int = 0


class Checkpoints:
    """The file of a store's checkpoints, a JSON object in each line, and the key that they are signed with.

    Without a key none are made. Raises ConfigError for a key that is none, or that lies in the store.
    """

    def __init__(self, store: Path, settings: AuditConfig) -> None:
        self.path, self.every = path(settings, store), settings.every
        self.key = signing_key(settings, store)

    def make(self, state: State, now: datetime, at_once: bool = False) -> Checkpoint | None:
        """Sign the latest entry if something was added since the last checkpoint, and that is old enough or one is
        wanted at once."""
        if self.key is None:
            return None
        past = read(self.path)
        if past and now - past[-1].at < self.every and not at_once:
            return None
        with state.snapshot() as tx:
            latest = tx.audit_trail(limit=1)
        if not latest or (past and (past[-1].seq, past[-1].hash) == (latest[0].seq, latest[0].hash)):
            return None
        made = Checkpoint(latest[0].seq, latest[0].hash, now).signed(self.key)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        overwrite(self.path, "".join(line(one) for one in [*past, made]).encode())
        return made


def path(settings: AuditConfig, store: Path) -> Path:
    """The file of a store's checkpoints."""
    return Path(settings.checkpoints or store / FILE)


def signing_key(settings: AuditConfig, store: Path) -> Ed25519PrivateKey | None:
    """The private key that the configuration names; None for none."""
    if settings.key is None:
        return None
    text = secret(settings.key, store, ("audit", "key"))
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{settings.key} holds no Ed25519 private key in PEM; {MAKE_ONE}", ("audit", "key"))
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key in a PEM file. DataError where there is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{path} holds no Ed25519 public key in PEM; openssl pkey -pubout makes it of the private one")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """By which a key is told from others: 32 hex digits."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]


def examine(entries: Sequence[AuditEntry], checkpoints: Iterable[Checkpoint], key: Ed25519PublicKey | None) -> Findings:
    """Hold a record against itself, and against its checkpoints.

    Args:
        entries: all there are, in any order.
        key: what the checkpoints are to be signed by; without one their signatures are not looked at.
    """
    found = Findings(len(entries))
    if (broken := verify(entries)) is not None:
        found.problems.append(f"entry {broken.seq} of {_day(broken.at)} does not fit the chain")
    by_seq = {entry.seq: entry for entry in entries}
    anew = [(entry.seq, begun) for entry in entries if (begun := _sealed_anew_from(entry))]
    for one in checkpoints:
        found.checkpoints += 1
        entry = by_seq.get(one.seq)
        if key is not None and not one.is_signed_by(key):
            found.problems.append(f"the checkpoint of {_day(one.at)} is not signed by the key {fingerprint(key)}")
        elif entry is not None and entry.hash == one.hash:
            found.sealed = max(found.sealed, one.seq)
        elif any(seq > one.seq >= begun for seq, begun in anew):
            found.superseded += 1
        elif entry is None:
            found.problems.append(f"entry {one.seq} is missing, which was there on {_day(one.at)}")
        else:
            found.problems.append(f"entry {one.seq} is another one than on {_day(one.at)}, when it was sealed")
    return found


def _sealed_anew_from(entry: AuditEntry) -> int:
    """The entry from which an erasure sealed the record anew; 0 where this is none that did."""
    state = entry.payload.get("state") if entry.kind == "erasure" else None
    return int((state or {}).get("resealed_from") or 0)


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# files


def line(row: AuditEntry | Checkpoint) -> str:
    """A row as a line of a file."""
    return json.dumps({**asdict(row), "at": row.at.astimezone(UTC).isoformat()}, separators=(",", ":")) + "\n"


def read(path: Path) -> list[Checkpoint]:
    """The checkpoints in a file; none where there is no file. DataError for a line that is none."""
    return [Checkpoint(**fields) for fields in _lines(path, Checkpoint)] if path.exists() else []


def read_entries(path: Path) -> list[AuditEntry]:
    """The entries of an exported record. DataError for a line that is none."""
    return [AuditEntry(**fields) for fields in _lines(path, AuditEntry)]


def _lines(path: Path, kind: type) -> list[dict[str, Any]]:
    names, rows = set(kind.__dataclass_fields__), []  # type: ignore[attr-defined]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "it is no UTF-8 text"
        raise DataError(f"{path} cannot be read: {said}") from None
    for number, written in enumerate(text.splitlines(), start=1):
        try:
            fields = json.loads(written)
            if set(fields) != names:
                raise ValueError
            rows.append({**fields, "seq": int(fields["seq"]), "at": datetime.fromisoformat(fields["at"])})
        except (ValueError, TypeError):
            raise DataError(
                f"{path}, line {number}: is no {_WORDS[kind]}; it was altered, or is another file"
            ) from None
    return rows


_WORDS = {Checkpoint: "checkpoint", AuditEntry: "entry of an audit record"}
