# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox: every change of the graph as one numbered record in MongoDB, in the one order in which all graph members apply them.

A record is {_id: number, change_id, op, data, at}. Three things hold:

Dense and in order. A number is one more than the newest record that a majority has. Such a record survives every failover, so no number is left out:
had the base been a record that only one member has, a failover could take it back and leave its number empty for good. Two writers that choose the
same number collide on _id, and the second looks again. Whoever sees record n (majority read) therefore sees all before it.

Once. change_id is unique: a change that is given a second time, by a client's repeated request, by our own retry after a lost answer, or by the sweeper,
is found and not written again. It counts as found only once a majority has it; until then its number may still be taken back.

Never lost between document and outbox. There are no transactions here, so a changed insight carries its change with it, in `pending`, in the same atomic
write (insights.py). Only after the record is in the outbox does the entry leave `pending`. Whatever stops in between leaves it there, and the next request for
that insight or the sweeper of any API member numbers it. Changes of one insight keep their order: entries are numbered first to last, each before
the next. A removed insight stays as a tombstone until its removal is numbered. The other order, outbox first, could promise the graph a
document whose write then fails. A link has no document: its record in the outbox is the only write, and links of an insight are numbered after its own
pending changes, so that a link never comes before its node.

Growth: records are kept for ever, and an empty graph member is built from number 1. To compact, a later release needs: a dump of a graph
member whose number is kept with it (position k); every member's number at k or above; then records below k may go, except the newest record (numbers count on
from it, and appliers compare it), and except records younger than any retry or `pending` entry may be (days), because their change_ids
must still be found. A member that is behind the oldest record says so and waits to be restored from the dump (applier.py: gap).
"""

from __future__ import annotations

import asyncio
import datetime
import random
import typing as t

from pymongo import ASCENDING, DESCENDING, ReadPreference
from pymongo.errors import DuplicateKeyError

from . import metrics, schema
from .mongo import Document, Mongo

PUT_INSIGHT, REMOVE_INSIGHT, PUT_LINK, REMOVE_LINK = "insight.put", "insight.remove", "link.put", "link.remove"


def change(change_id: str, op: str, **data: t.Any) -> Document:
    """A change before it has a number. `change_id` is the same whenever the same change is tried again."""
    return {"change_id": change_id, "op": op, "data": data}


class Outbox:
    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self.records = mongo.collection(schema.OUTBOX)
        # readers of the outbox go on while there is no primary: what a majority has is in the same order everywhere
        self.copies = self.records.with_options(read_preference=ReadPreference.PRIMARY_PREFERRED)
        self.newest_seen = 0
        self._indexed = False
        self._turn = asyncio.Lock()

    async def append(self, entry: Document, ride_out: float | None = None) -> int:
        """The number of this change, given now or earlier. Raises Unavailable (Mongo.run)."""
        return await self.mongo.run(lambda: self._append(entry), ride_out)

    async def _append(self, entry: Document) -> int:
        async with self._turn:  # requests of one process would only collide
            if not self._indexed:
                await schema.ensure_mongodb(self.mongo)
                self._indexed = True
            while True:
                number = await self._newest(self.records) + 1
                try:
                    await self.records.insert_one({"_id": number, **entry, "at": datetime.datetime.now(datetime.UTC)})
                except DuplicateKeyError:
                    known = await self.records.find_one({"change_id": entry["change_id"]}, {"_id": 1})
                    if known is None:  # the number is taken, or our own record is not yet a majority's
                        await asyncio.sleep(random.uniform(0.002, 0.02))  # noqa: S311 - jitter
                        continue
                    number = known["_id"]
                self._saw(max(number, self.newest_seen))
                return number

    async def newest(self, ride_out: float) -> int:
        """The newest number, 0 for none. Raises Unavailable after `ride_out` seconds."""
        number = await self.mongo.run(lambda: self._newest(self.copies), ride_out)
        self._saw(number)
        return number

    @staticmethod
    async def _newest(records: t.Any) -> int:
        record = await records.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        return int(record["_id"]) if record else 0

    def _saw(self, number: int) -> None:
        # may go back: a restored MongoDB counts from an earlier number
        self.newest_seen = number
        metrics.OUTBOX_NEWEST.set(self.newest_seen)

    async def since(self, number: int, limit: int, ride_out: float) -> list[Document]:
        """At most `limit` records in order, beginning with `number` itself. Raises Unavailable after `ride_out` seconds."""
        query = {"_id": {"$gte": number}}
        return await self.mongo.run(lambda: self.copies.find(query).sort("_id", ASCENDING).limit(limit).to_list(), ride_out)
