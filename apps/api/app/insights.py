# SPDX-License-Identifier: GPL-3.0-or-later
"""Insights: documents in MongoDB, searched by words, tag and table, and the source of the graph's nodes.

A document: {_id, title, text, table, tags, created, updated, version, change, recent, fingerprint, words, pending}.
`change` names the last write; every write is a compare-and-swap on it, so nothing is lost between readers who write. `recent` holds the last names: a write
whose answer was lost finds itself there when it is tried again, and is not taken for somebody else's. `pending` holds changes of the graph that have no
number yet (outbox.py). A removed document is a tombstone with `buried` until its removal has a number.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import datetime
import hashlib
import json
import logging
import random
import re
import typing as t
import unicodedata
import uuid

import pydantic
from pymongo import DESCENDING, ReadPreference
from pymongo.errors import DuplicateKeyError

from . import metrics, outbox, schema
from .mongo import Document, Mongo
from .outbox import Outbox
from .problems import Problem, Unavailable

log = logging.getLogger("app.insights")

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
KIND = r"^[a-z][a-z0-9-]{0,31}$"
MAX_WORDS = 500
RECENT = 20
SWEEP = 5.0  # seconds between two looks for changes without a number
FLUSH = 2.0  # seconds that a request spends on numbering its change before it leaves that to the sweeper
_NAMESPACE = uuid.UUID("8d3bb1a9-6f43-4c3e-9d5e-5e0cf0a3d1b7")
_DONE = {"buried": {"$exists": True}, "pending": []}
_CONTENT = ("title", "text", "table", "tags")

Identifier = t.Annotated[str, pydantic.Field(pattern=ID)]
Tag = t.Annotated[str, pydantic.StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=50)]


Title = t.Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = t.Annotated[str, pydantic.Field(max_length=20000)]
Table = t.Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")] | None
Tags = t.Annotated[list[Tag], pydantic.Field(max_length=20), pydantic.AfterValidator(lambda tags: list(dict.fromkeys(tags)))]


class Content(pydantic.BaseModel):
    """What a client writes."""

    model_config = pydantic.ConfigDict(extra="forbid")
    title: Title
    text: Text = ""
    table: Table = None
    tags: Tags = []


class Changes(pydantic.BaseModel):
    """What a client changes (RFC 7396: what is not named stays; a null table is taken away)."""

    model_config = pydantic.ConfigDict(extra="forbid")
    title: Title = ""
    text: Text = ""
    table: Table = None
    tags: Tags = []


@dataclasses.dataclass(frozen=True)
class Conditions:
    """If-Match and If-None-Match of a write, with strong comparison (RFC 9110, section 13.1)."""

    match: str | None = None
    none_match: str | None = None

    def hold(self, current: Document | None) -> bool:
        if self.match is not None and (current is None or not _names(self.match, current)):
            return False
        return self.none_match is None or current is None or not _names(self.none_match, current)


def _names(header: str, document: Document) -> bool:
    return header.strip() == "*" or etag(document) in [tag.strip() for tag in header.split(",")]


def etag(document: Document) -> str:
    return f'"{document["version"]}-{document["change"][:12]}"'


def public(document: Document) -> Document:
    """As clients see it: times in ISO 8601, UTC."""
    times = {name: document[name].astimezone(datetime.UTC).isoformat(timespec="milliseconds") for name in ("created", "updated")}
    return {"id": document["_id"], **{name: document[name] for name in _CONTENT}, **times, "version": document["version"]}


def words(text: str) -> list[str]:
    """Words as they are searched: without case and accents, two letters or more, each once."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return list(dict.fromkeys(word[:40] for word in re.findall(r"\w{2,}", plain)))


def fingerprint(content: Document) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def key_id(user: str, what: str, key: str) -> str:
    """What an Idempotency-Key stands for: the same for the same user, request and key, on every member."""
    return uuid.uuid5(_NAMESPACE, f"{user}\0{what}\0{key}").hex


def alive(document: Document | None) -> Document | None:
    return None if document is None or "buried" in document else document


def revise(current: Document | None, identifier: str, content: Document, change_id: str, now: datetime.datetime, key: str | None = None) -> Document:
    """The document with new content, and with the change of the graph in it. `current` may be a tombstone."""
    before = alive(current)
    document = {
        **content,
        "_id": identifier,
        "created": before["created"] if before else now,
        "updated": now,
        "version": before["version"] + 1 if before else 1,
        "fingerprint": before["fingerprint"] if before else key,
        "words": words(" ".join((content["title"], content["table"] or "", *content["tags"], content["text"])))[:MAX_WORDS],
    }
    node = {name: document[name] for name in ("title", "table", "tags", "version")}
    return _with_change(current, document, outbox.change(change_id, outbox.PUT_INSIGHT, id=identifier, **node))


def bury(current: Document, change_id: str, now: datetime.datetime) -> Document:
    """The tombstone: no content, nothing that a search finds."""
    empty: Document = {"title": "", "text": "", "table": None, "tags": [], "words": [], "fingerprint": None}
    document = {**current, **empty, "updated": now, "version": current["version"] + 1, "buried": now}
    return _with_change(current, document, outbox.change(change_id, outbox.REMOVE_INSIGHT, id=current["_id"]))


def _with_change(current: Document | None, document: Document, entry: Document) -> Document:
    recent, pending = (current["recent"], current["pending"]) if current else ([], [])
    name = entry["change_id"]
    return {**document, "change": name, "recent": [*recent[1 - RECENT :], name], "pending": [*pending, entry]}


def write_cursor(document: Document) -> str:
    text = json.dumps([int(document["created"].timestamp() * 1000), document["_id"]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(text: str) -> Document:
    """The query for what comes after."""
    try:
        milliseconds, identifier = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(milliseconds, int) or not isinstance(identifier, str):
            raise ValueError
        created = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    except (ValueError, TypeError, OverflowError, OSError, binascii.Error):
        raise Problem(422, "invalid-cursor", "after: accepted: `next` of the page before.") from None
    return {"$or": [{"created": {"$lt": created}}, {"created": created, "_id": {"$lt": identifier}}]}


def query(text: str | None, tag: str | None, table: str | None, after: str | None) -> Document:
    found: Document = {"buried": None}
    if text is not None:
        wanted = words(text)
        if not wanted:
            raise Problem(422, "invalid-search", "text: there is no word of two letters or more in it.")
        found["words"] = {"$all": wanted}
    if tag is not None:
        found["tags"] = tag.strip().lower()
    if table is not None:
        found["table"] = table
    if after is not None:
        found.update(read_cursor(after))
    return found


# What a write makes of what is there: the new document, or None for "nothing to do". Called anew for each try, with a change id of its own.
Decision = t.Callable[[Document | None, str, datetime.datetime], Document | None]


class Insights:
    def __init__(self, mongo: Mongo, box: Outbox) -> None:
        self.mongo = mongo
        self.outbox = box
        self.documents = mongo.collection(schema.INSIGHTS)
        # a search goes on while there is no primary; what it finds may then be a moment old
        self.copies = self.documents.with_options(read_preference=ReadPreference.PRIMARY_PREFERRED)

    async def get(self, identifier: str) -> Document | None:
        return alive(await self._read(identifier))

    async def _read(self, identifier: str) -> Document | None:
        return await self.mongo.run(lambda: self.documents.find_one({"_id": identifier}))

    async def search(self, found: Document, limit: int) -> tuple[list[Document], str | None]:
        """A page, newest first, and the cursor of the next one."""
        order = [("created", DESCENDING), ("_id", DESCENDING)]
        hidden = {"words": 0, "pending": 0, "recent": 0}
        page = await self.mongo.run(lambda: self.copies.find(found, hidden).sort(order).limit(limit + 1).to_list())
        return page[:limit], write_cursor(page[limit - 1]) if len(page) > limit else None

    async def put(self, identifier: str, content: Document, conditions: Conditions = Conditions()) -> tuple[Document, bool]:  # noqa: B008 - frozen
        """The document as it is then, and whether it was made. Content that is there already is a success without a new version.

        That holds with a failed If-Match, too: the request has then been carried out before (RFC 9110, section 13.1.1).
        """

        def decide(current: Document | None, change_id: str, now: datetime.datetime) -> Document | None:
            before = alive(current)
            if before and conditions.none_match is None and all(before[name] == content[name] for name in _CONTENT):
                return None
            _demand(conditions, before)
            return revise(current, identifier, content, change_id, now)

        document, wrote = await self._write(identifier, decide)
        return existing(document, identifier), wrote and existing(document, identifier)["version"] == 1

    async def patch(self, identifier: str, changes: Document, conditions: Conditions) -> Document:
        def decide(current: Document | None, change_id: str, now: datetime.datetime) -> Document | None:
            before = existing(alive(current), identifier)
            if all(before[name] == value for name, value in changes.items()):
                return None
            _demand(conditions, before)
            return revise(current, identifier, {name: changes.get(name, before[name]) for name in _CONTENT}, change_id, now)

        document, _wrote = await self._write(identifier, decide)
        return existing(document, identifier)

    async def post(self, identifier: str, content: Document) -> Document:
        """Make an insight; with an id made of an Idempotency-Key the same request is answered again with what it made."""
        mark = fingerprint(content)

        def decide(current: Document | None, change_id: str, now: datetime.datetime) -> Document | None:
            before = alive(current)
            if before is None:
                return revise(current, identifier, content, change_id, now, mark)
            if before["fingerprint"] != mark:
                raise Problem(422, "idempotency-key-reused", "Idempotency-Key: this key was used with another body.")
            return None

        document, _wrote = await self._write(identifier, decide)
        return existing(document, identifier)

    async def delete(self, identifier: str, conditions: Conditions) -> None:
        """Remove it; what is not there is removed already."""

        def decide(current: Document | None, change_id: str, now: datetime.datetime) -> Document | None:
            before = alive(current)
            _demand(conditions, before)
            return bury(before, change_id, now) if before else None

        await self._write(identifier, decide)

    async def link(self, source: str, target: str, kind: str, change_id: str, *, remove: bool = False) -> int | None:
        """The number of the change. None: nothing to remove, since one of the two is gone, and its links with it."""
        for identifier in (source, target):
            document = await self._read(identifier)
            if document is not None:
                await self._flush(document)
            if alive(document) is None:
                if remove:
                    return None
                existing(None, identifier)
        op = outbox.REMOVE_LINK if remove else outbox.PUT_LINK
        return await self.outbox.append(outbox.change(change_id, op, source=source, target=target, kind=kind))

    async def _write(self, identifier: str, decide: Decision) -> tuple[Document | None, bool]:
        """What is there then, and whether that is of this call."""
        tried: set[str] = set()
        document = await self.mongo.run(lambda: self._swap(identifier, decide, tried))
        if document is not None and document["pending"]:
            try:
                await self._flush(document, FLUSH)
            except Unavailable:
                # the write is safe with its change in it
                metrics.OUTBOX_LEFT.inc()
                log.warning("a change of insight %s is left to the sweeper", identifier)
        return document, document is not None and document["change"] in tried

    async def _swap(self, identifier: str, decide: Decision, tried: set[str]) -> Document | None:
        """Read, decide, and write if nobody else did in between; else again."""
        while True:
            current = await self.documents.find_one({"_id": identifier})
            if current is not None and tried.intersection(current["recent"]):
                return current  # an earlier try was carried out, only its answer was lost
            now = datetime.datetime.now(datetime.UTC)
            now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # what MongoDB keeps
            change_id = uuid.uuid4().hex
            document = decide(current, change_id, now)
            if document is None:
                return current
            tried.add(change_id)
            try:
                if current is None:
                    await self.documents.insert_one(document)
                    return document
                result = await self.documents.replace_one({"_id": identifier, "change": current["change"]}, document)
                if result.matched_count:
                    return document
            except DuplicateKeyError:
                pass
            await asyncio.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - jitter

    async def _flush(self, document: Document, ride_out: float | None = None) -> None:
        """Number the document's changes in their order, then take them out of it."""
        if not document["pending"]:
            return
        for entry in document["pending"]:
            await self.outbox.append(entry, ride_out)
        identifier, done = document["_id"], [entry["change_id"] for entry in document["pending"]]

        async def forget() -> None:
            await self.documents.update_one({"_id": identifier}, {"$pull": {"pending": {"change_id": {"$in": done}}}})
            if "buried" in document:
                await self.documents.delete_one({"_id": identifier, **_DONE})

        await self.mongo.run(forget, ride_out)

    async def sweep(self) -> int:
        """Number what requests left behind; how many documents had something."""
        left = await self.mongo.run(lambda: self.documents.find({"pending.change_id": {"$exists": True}}).limit(100).to_list(), FLUSH)
        for document in left:
            await self._flush(document, FLUSH)
        # a tombstone whose last step was missed
        await self.mongo.run(lambda: self.documents.delete_many(_DONE), FLUSH)
        return len(left)

    async def sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            try:
                count = await self.sweep()
                if count:
                    log.info("numbered the changes of %d insights that were left", count)
            except Unavailable:
                continue
            except Exception:
                log.exception("the sweeper failed; it goes on")


def existing(document: Document | None, identifier: str) -> Document:
    if document is None:
        raise Problem(404, "unknown-insight", f"There is no insight {identifier!r}.")
    return document


def _demand(conditions: Conditions, current: Document | None) -> None:
    if not conditions.hold(current):
        raise Problem(412, "precondition-failed", "If-Match, If-None-Match: the insight is not (or no longer) as the request says.")
