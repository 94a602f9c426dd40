# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every part needs: BSON conventions, optimes, errors, the log."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import time
from typing import Any, NamedTuple

from bson import Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion

Doc = dict[str, Any]

# Dates that Python cannot hold stay what they are; UUIDs stay binary, so that bytes are equal on all members.
CODEC: CodecOptions[Doc] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
CODES = {
    "BadValue": 2,
    "UserNotFound": 11,
    "Unauthorized": 13,
    "TypeMismatch": 14,
    "AuthenticationFailed": 18,
    "IllegalOperation": 20,
    "AlreadyInitialized": 23,
    "NamespaceNotFound": 26,
    "IndexNotFound": 27,
    "RoleNotFound": 31,
    "FailedToParse": 9,
    "CursorNotFound": 43,
    "NamespaceExists": 48,
    "MaxTimeMSExpired": 50,
    "CommandNotFound": 59,
    "ImmutableField": 66,
    "CannotCreateIndex": 67,
    "InvalidOptions": 72,
    "InvalidNamespace": 73,
    "NodeNotFound": 74,
    "NoReplicationEnabled": 76,
    "IndexOptionsConflict": 85,
    "IndexKeySpecsConflict": 86,
    "ShutdownInProgress": 91,
    "InvalidReplicaSetConfig": 93,
    "NotYetInitialized": 94,
    "UnsatisfiableWriteConcern": 100,
    "NewReplicaSetConfigurationIncompatible": 103,
    "ConfigurationInProgress": 109,
    "NotSecondary": 95,
    "PrimarySteppedDown": 189,
    "CannotSatisfyWriteConcern": 100,
    "ExceededTimeLimit": 262,
    "TransactionTooOld": 225,
    "NotImplemented": 238,
    "ElectionInProgress": 216,
    "CurrentConfigNotCommittedYet": 308,
    "Location51003": 51003,
    "Location51002": 51002,
    "Location7369100": 7369100,
    "DuplicateKey": 11000,
    "InterruptedDueToReplStateChange": 11602,
    "NotWritablePrimary": 10107,
    "NotPrimaryNoSecondaryOk": 13435,
    "NotPrimaryOrSecondary": 13436,
}
RETRYABLE = {6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}


class MongoError(Exception):
    """An error that a client gets.

    name: key of CODES. extra: further fields of the reply.
    """

    def __init__(self, name: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.name = name
        self.code = CODES[name]
        self.message = message
        self.extra = extra

    def reply(self) -> Doc:
        return {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.name, **self.extra}


class PeerError(Exception):
    """A member could not be asked, or answered with an error (code, 0 without an answer)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class OpTime(NamedTuple):
    """A place in the replicated history. Ordered by term first: a later election wins."""

    t: int
    ts: int  # seconds << 32 | counter

    @classmethod
    def of(cls, doc: Doc | None) -> OpTime:
        """From {ts, t}, as optimes are sent."""
        if not doc or "ts" not in doc:
            return NULL
        return cls(int(doc.get("t", -1)), pack(doc["ts"]))

    def doc(self) -> Doc:
        from bson import Int64

        return {"ts": unpack(self.ts), "t": Int64(self.t)}

    @property
    def date(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.ts >> 32, datetime.UTC).replace(tzinfo=None)


NULL = OpTime(-1, 0)


def pack(value: Timestamp) -> int:
    return value.time << 32 | value.inc


def unpack(value: int) -> Timestamp:
    return Timestamp(value >> 32, value & 0xFFFFFFFF)


def utcnow() -> datetime.datetime:
    """Now, to the millisecond that BSON keeps."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def split(ns: str) -> tuple[str, str]:
    """'db.some.collection' → database and collection."""
    database, _, collection = ns.partition(".")
    return database, collection


class Log:
    """JSON lines as mongod writes them: https://www.mongodb.com/docs/manual/reference/log-messages/"""

    def __init__(self) -> None:
        self.stream = sys.stdout

    def __call__(self, component: str, message: str, severity: str = "I", **attr: Any) -> None:
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"t": {"$date": stamp}, "s": severity, "c": component, "id": 0, "ctx": "main", "msg": message}
        if attr:
            line["attr"] = attr
        with contextlib.suppress(OSError):  # A full disk under the log must not stop the data.
            print(json.dumps(line, default=str), file=self.stream, flush=True)


log = Log()


def monotonic() -> float:
    return time.monotonic()
