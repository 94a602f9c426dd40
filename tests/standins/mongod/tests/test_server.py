# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Users, rights, TLS, parameters, indexes, cursors: one server's business, seen with PyMongo."""

from __future__ import annotations

import datetime
import pathlib
import socket
import ssl
import subprocess
import sys
import uuid
from typing import Any

import bson
import pymongo
import pytest
import yaml
from cryptography import x509
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure
from replica import STANDINS, Cluster, Member, wait_for


def code_of(error: pytest.ExceptionInfo[OperationFailure]) -> int | None:
    return error.value.code


def test_who_is_not_logged_in_learns_nothing(trio: Cluster) -> None:
    with trio.primary.client(user=None) as client:
        assert client.admin.command("ping")["ok"] and client.server_info()["version"] == "7.0.14"
        create: dict[str, Any] = {"createUser": "x", "pwd": "y", "roles": []}
        for body in ({"listDatabases": 1}, {"replSetGetStatus": 1}, {"serverStatus": 1}, {"find": "system.users"}, create):
            with pytest.raises(OperationFailure) as error:
                client.admin.command(body)
            assert code_of(error) == 13
    with trio.primary.client(password="wrong") as client, pytest.raises(OperationFailure) as error:
        client.admin.command("listDatabases")
    assert code_of(error) == 18


def test_roles_allow_what_they_say(trio: Cluster) -> None:
    admin = trio.primary.admin
    admin.command("createRole", "counter", privileges=[{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find", "insert"]}], roles=[])
    for name, roles in {"reader": ["read@shop"], "writer": ["readWrite@shop"], "monitor": ["clusterMonitor@admin"], "counting": ["counter@admin"]}.items():
        named = [{"role": role.split("@")[0], "db": role.split("@")[1]} for role in roles]
        admin.command("createUser", name, pwd="pw", roles=named)
    admin.client.shop.orders.insert_one({"_id": 0})

    def allowed(user: str, work: Any) -> bool:
        with trio.primary.client(user=user, password="pw") as client:
            try:
                work(client)
            except OperationFailure as error:
                assert error.code == 13
                return False
            return True

    def write(client: Any) -> None:
        client.shop.orders.insert_one({})

    def read(client: Any) -> None:
        assert client.shop.orders.find_one() is not None

    def status(client: Any) -> None:
        client.admin.command("replSetGetStatus")

    def oplog(client: Any) -> None:
        assert client.local["oplog.rs"].find_one() is not None

    assert [allowed("reader", work) for work in (read, write, status, oplog)] == [True, False, False, False]
    assert [allowed("writer", work) for work in (read, write, status, oplog)] == [True, True, False, False]
    assert [allowed("monitor", work) for work in (read, write, status, oplog)] == [False, False, True, True]
    assert [allowed("counting", work) for work in (read, write, status)] == [True, True, False]
    assert not allowed("counting", lambda client: client.shop.orders.delete_one({}))
    admin.command("updateUser", "reader", pwd="new")
    with trio.primary.client(user="reader", password="pw") as client, pytest.raises(OperationFailure):
        client.shop.orders.find_one()
    for name in ("reader", "writer", "monitor", "counting"):
        admin.command("dropUser", name)
    admin.command("dropRole", "counter")


def test_passwords_are_stored_as_scram_credentials_only(trio: Cluster) -> None:
    trio.primary.admin.command("createUser", "stored", pwd="very-secret-word", roles=[])
    files = [file for member in trio.members for file in (member.folder / "db").rglob("*") if file.is_file()]
    assert any(b"admin.stored" in file.read_bytes() for file in files)
    assert not any(b"very-secret-word" in file.read_bytes() for file in files)
    assert not any("very-secret-word" in member.log() for member in trio.members)
    trio.primary.admin.command("dropUser", "stored")


def test_plain_connections_are_refused(trio: Cluster) -> None:
    client: Any = pymongo.MongoClient(trio.primary.host, directConnection=True, serverSelectionTimeoutMS=1000)
    with client, pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
        client.admin.command("ping")


def test_rotate_certificates_without_a_restart(trio: Cluster) -> None:
    member = trio.secondaries[0]

    def serial() -> int:
        context = ssl.create_default_context(cafile=str(trio.authority.file))
        with socket.create_connection(("127.0.0.1", member.port), 10) as sock, context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            der = tls.getpeercert(binary_form=True)
            assert der
            return int(x509.load_der_x509_certificate(der).serial_number)

    assert serial() == member.serial
    new = trio.authority.issue(member.pem)
    assert serial() == member.serial
    member.admin.command("rotateCertificates", 1)
    assert serial() == new
    member.serial = new
    member.pem.write_text("no certificate")
    with pytest.raises(OperationFailure):
        member.admin.command("rotateCertificates", 1)
    assert serial() == new
    member.serial = trio.authority.issue(member.pem)
    member.admin.command("rotateCertificates", 1)


def test_feature_compatibility_version_needs_confirmation(trio: Cluster) -> None:
    admin = trio.primary.admin
    with pytest.raises(OperationFailure, match="confirm: true") as error:
        admin.command("setFeatureCompatibilityVersion", "7.0")
    assert code_of(error) == 7369100
    with pytest.raises(OperationFailure) as error:
        admin.command("setFeatureCompatibilityVersion", "8.0", confirm=True)
    assert code_of(error) == 2
    admin.command("setFeatureCompatibilityVersion", "6.0", confirm=True)

    def versions() -> list[Any]:
        return [member.admin.command("getParameter", 1, featureCompatibilityVersion=1)["featureCompatibilityVersion"] for member in trio.members]

    wait_for(lambda: versions() == [{"version": "6.0"}] * 3, "replicated")
    admin.command("setFeatureCompatibilityVersion", "7.0", confirm=True)


def test_upgrade_by_a_restart_with_the_next_series(trio: Cluster) -> None:
    member = trio.secondaries[0]
    member.terminate()
    member.version = "8.0.4"
    member.start()
    wait_for(trio.healthy, "mixed versions work")
    assert member.admin.client.server_info()["version"] == "8.0.4"
    assert member.hello()["maxWireVersion"] == 25
    assert trio.primary.admin.command("getParameter", 1, featureCompatibilityVersion=1)["featureCompatibilityVersion"] == {"version": "7.0"}
    member.terminate()
    member.version = "7.0.14"
    member.start()


def test_unique_indexes_hold(trio: Cluster) -> None:
    with trio.client() as client:
        people = client.unique.people
        people.create_index([("mail", 1)], unique=True)
        people.insert_one({"_id": 1, "mail": "a"})
        people.insert_one({"_id": 2, "mail": "b"})
        with pytest.raises(DuplicateKeyError) as error:
            people.insert_one({"_id": 3, "mail": "a"})
        assert error.value.details and error.value.details["keyValue"] == {"mail": "a"}
        with pytest.raises(DuplicateKeyError):
            people.update_one({"_id": 2}, {"$set": {"mail": "a"}})
        with pytest.raises(DuplicateKeyError):
            people.insert_one({"_id": 1, "mail": "c"})
        with pytest.raises(BulkWriteError) as bulk:
            people.insert_many([{"_id": 4, "mail": "d"}, {"_id": 5, "mail": "a"}, {"_id": 6, "mail": "e"}], ordered=False)
        assert bulk.value.details["nInserted"] == 2
        with pytest.raises(OperationFailure):
            client.unique.other.insert_many([{"x": 1}, {"x": 1}])
            client.unique.other.create_index("x", unique=True)
        # Another member enforces it as well, once it is primary.
        trio.primary.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)
        with pytest.raises(DuplicateKeyError):
            people.insert_one({"_id": 7, "mail": "a"})


def test_values_come_back_as_they_were(trio: Cluster) -> None:
    doc = {
        "_id": bson.ObjectId(),
        "int": 1,
        "long": bson.Int64(1),
        "float": 1.0,
        "decimal": bson.Decimal128("1.10"),
        "date": datetime.datetime(2026, 1, 2, 3, 4, 5, 678000),
        "binary": b"\x00\xff",
        "uuid": bson.Binary(uuid.uuid4().bytes, 4),
        "stamp": bson.Timestamp(5, 6),
        "pattern": bson.Regex("^a", "i"),
        "nested": {"list": [1, {"a": None}], "empty": {}},
        "ünïcode": "ß",
        "true": True,
    }
    with trio.client(readPreference="secondary", readConcernLevel="majority") as client:
        client.types.docs.insert_one(doc)
        # A secondary tells of it when it knows that a majority has it.
        found = wait_for(lambda: client.types.docs.find_one({"_id": doc["_id"]}), "the document on a secondary")
        assert bson.encode(found) == bson.encode(doc)
        assert client.types.docs.count_documents({"stamp": {"$gte": bson.Timestamp(5, 0)}}) == 1
        assert client.types.docs.count_documents({"decimal": {"$gt": bson.Decimal128("1")}}) == 1


def test_updates_of_every_kind(trio: Cluster) -> None:
    with trio.client() as client:
        docs = client.updates.docs
        docs.insert_many([{"_id": i, "n": i, "tags": ["a"]} for i in range(5)])
        assert docs.update_many({"n": {"$gte": 3}}, {"$inc": {"n": 10}, "$push": {"tags": "b"}}).modified_count == 2
        assert docs.update_one({"_id": 0}, {"$set": {"n": 0}}).modified_count == 0
        assert docs.replace_one({"_id": 1}, {"whole": True}).modified_count == 1
        assert docs.find_one({"_id": 1}) == {"_id": 1, "whole": True}
        assert docs.update_one({"key": "k"}, {"$setOnInsert": {"new": 1}, "$set": {"n": 9}}, upsert=True).upserted_id
        assert docs.find_one({"key": "k"}, {"_id": 0}) == {"key": "k", "new": 1, "n": 9}
        before = docs.find_one_and_update({"_id": 2}, {"$unset": {"tags": 1}})
        assert before["tags"] == ["a"]
        assert docs.find_one_and_delete({"_id": 2}) == {"_id": 2, "n": 2}
        assert docs.find_one_and_update({"_id": 9}, {"$set": {"n": 1}}, upsert=True, return_document=True) == {"_id": 9, "n": 1}
        docs.update_one({"_id": 3}, [{"$set": {"double": {"$multiply": ["$n", 2]}}}])
        assert docs.find_one({"_id": 3})["double"] == 26
        with pytest.raises(OperationFailure) as error:
            docs.update_one({"_id": 3}, {"$set": {"_id": 4}})
        assert code_of(error) == 66
        assert [doc["_id"] for doc in docs.find({"n": {"$exists": True}}, {"_id": 1}).sort([("n", -1)]).skip(1).limit(2)][0] == 3
        assert sorted(docs.distinct("tags")) == ["a", "b"]
        stats = list(docs.aggregate([{"$match": {"n": {"$gt": 0}}}, {"$group": {"_id": None, "sum": {"$sum": "$n"}}}]))
        assert stats[0]["sum"] == 13 + 14 + 9 + 1


def test_cursors_cross_batches_and_time_out_of_existence(trio: Cluster) -> None:
    with trio.client() as client:
        client.cursors.docs.insert_many([{"_id": i} for i in range(1000)])
        assert [doc["_id"] for doc in client.cursors.docs.find(batch_size=7)] == list(range(1000))
        cursor = client.cursors.docs.find(batch_size=2)
        next(cursor)
        client.cursors.command("killCursors", "docs", cursors=[cursor.cursor_id])
        with pytest.raises(pymongo.errors.CursorNotFound):
            list(cursor)


def test_oplog_can_be_tailed_and_resumed(trio: Cluster) -> None:
    oplog = trio.primary.admin.client.local["oplog.rs"]
    start = next(oplog.find().sort("$natural", -1).limit(1))["ts"]
    with trio.client() as client:
        client.tailed.docs.insert_one({"_id": "first"})
        cursor = oplog.find({"ts": {"$gt": start}, "ns": "tailed.docs"}, cursor_type=pymongo.CursorType.TAILABLE_AWAIT).max_await_time_ms(5000)
        first = next(cursor)
        assert (first["op"], first["o"]["_id"]) == ("i", "first")
        client.tailed.docs.update_one({"_id": "first"}, {"$set": {"x": 1}})
        second = next(cursor)
        assert (second["op"], second["o2"]) == ("u", {"_id": "first"})
        client.tailed.docs.delete_one({"_id": "first"})
        resumed = oplog.find({"ts": {"$gt": second["ts"]}, "ns": "tailed.docs"}).limit(1)
        assert next(resumed)["op"] == "d"
    assert {"ts", "t", "v", "wall", "ui"} <= set(first)


def test_causal_reads_on_a_secondary_wait_for_their_writes(trio: Cluster) -> None:
    late = trio.secondaries[0]
    with trio.client(w=1) as client, client.start_session(causal_consistency=True) as session:
        late.fault(set={"lag": 1})
        client.causal.docs.insert_one({"_id": 1}, session=session)
        secondary = client.causal.docs.with_options(read_preference=pymongo.ReadPreference.SECONDARY)
        assert secondary.count_documents({"_id": 1}, session=session) == 1


def test_majority_reads_do_not_see_what_may_be_rolled_back(trio: Cluster) -> None:
    primary = trio.primary
    for member in trio.secondaries:
        member.fault(set={"lag": 20})
    docs = primary.admin.client.majority.docs
    docs.with_options(write_concern=pymongo.WriteConcern(1)).insert_one({"_id": 1})
    assert docs.count_documents({}) == 1
    assert docs.with_options(read_concern=pymongo.read_concern.ReadConcern("majority")).find_one() is None
    assert docs.find_one() == {"_id": 1}


def test_secondary_refuses_writes_and_reads_without_leave(trio: Cluster) -> None:
    secondary = trio.secondaries[0]
    with pytest.raises(pymongo.errors.NotPrimaryError) as error:
        secondary.admin.client.x.y.insert_one({})
    assert dict(error.value.details or {})["code"] == 10107
    with pytest.raises(pymongo.errors.NotPrimaryError) as error:
        secondary.admin.client.x.command({"find": "y", "$readPreference": {"mode": "primary"}}, read_preference=pymongo.ReadPreference.PRIMARY)


def test_unknown_things_are_refused(trio: Cluster) -> None:
    admin = trio.primary.admin
    for body, code in (
        ({"noSuchCommand": 1}, 59),
        ({"setParameter": 1, "noSuchParameter": 1}, 72),
        ({"getParameter": 1, "noSuchParameter": 1}, 72),
        ({"replSetInitiate": {}}, 23),
    ):
        with pytest.raises(OperationFailure) as error:
            admin.command(body)
        assert code_of(error) == code
    with trio.client() as client, client.start_session() as session, pytest.raises(OperationFailure) as error, session.start_transaction():
        client.x.y.insert_one({}, session=session)
    assert code_of(error) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": {"prot": 1}}, "Unrecognized option: net.prot"),
        ({"storage": {"dbPath": 5}}, "storage.dbPath"),
        ({"security": {"authorization": "yes"}}, "security.authorization"),
        ({"net": {"tls": {"mode": "requireTLS"}}}, "tlsCertificateKeyFile"),
        ({"setParameter": {"noSuch": 1}}, "Unknown --setParameter"),
    ],
)
def test_wrong_configuration_is_refused_at_the_start(tmp_path: pathlib.Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "mongod.conf"
    config: dict[str, Any] = {"storage": {"dbPath": str(tmp_path / "db")}, **change}
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "mongod", "--config", str(file)]
    done = subprocess.run(command, cwd=STANDINS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2)
    assert message in done.stdout + done.stderr


def test_member_fixture_is_what_the_readme_says(trio: Cluster) -> None:
    member: Member = trio.members[0]
    resident = member.admin.command("serverStatus")["mem"]["resident"]
    assert resident < 80
