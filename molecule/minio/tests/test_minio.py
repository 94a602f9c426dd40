# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import checks
import minio
import pytest
import urllib3

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://minio"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "minio", containers, secrets)


def ca(value: Value) -> str:
    return f"{value('platform_root')}/minio/live/certs/CAs/ca.crt"


def test_listens_on_the_hosts_own_address_only(host: Host, value: Value) -> None:
    mine = {(address, port) for address, port in checks.listeners(host) if port in (9000, 9001)}
    # MinIO listens on the loopback address of its own accord.
    assert mine - {("127.0.0.1", 9000)} == {(value("platform_address"), 9000), (value("platform_address"), 9001)}


def test_cluster_has_its_write_quorum_and_can_spare_a_node(host: Host, value: Value) -> None:
    for path in ("/minio/health/cluster", "/minio/health/cluster/read", "/minio/health/cluster?maintenance=true"):
        assert checks.get(host, f"https://{value('platform_address')}:9000{path}", ca(value)).status == 200, path


def test_metrics_are_not_public(host: Host, value: Value) -> None:
    assert checks.get(host, f"https://{value('platform_address')}:9000/minio/v2/metrics/cluster", ca(value)).status == 403


def test_strangers_see_no_bucket(host: Host, value: Value) -> None:
    for path in ("/", "/gold/", "/bronze/"):
        assert checks.get(host, f"https://{value('platform_address')}:9000{path}", ca(value)).status == 403, path


def test_drives_belong_to_the_tiers_user(host: Host, value: Value) -> None:
    for drive in value("minio_drives"):
        folder = host.file(drive)
        assert (folder.uid, folder.mode & 0o007) == (value("minio_uid"), 0)


@pytest.fixture(scope="module")
def client(value: Value) -> minio.Minio:
    """Asks the cluster from the controller, as the role itself does."""
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False, ca_cert_data=value("platform_ca_certificate"))
    return minio.Minio(
        endpoint=value("minio_admin_endpoints")[0],
        access_key=value("minio_root_user"),
        secret_key=value("minio_root_password"),
        region=value("minio_region"),
        http_client=pool,
    )


def test_buckets_are_what_the_variables_say(value: Value, client: minio.Minio) -> None:
    for bucket in value("minio_buckets"):
        name = bucket["name"]
        assert client.bucket_exists(bucket_name=name), name
        assert (client.get_bucket_versioning(bucket_name=name).status == "Enabled") is bucket.get("versioning", True), name
        days = bucket.get("noncurrent_days", 0)
        if days:
            rules = client.get_bucket_lifecycle(bucket_name=name)
            found = [rule.noncurrent_version_expiration.noncurrent_days for rule in rules.rules if rule.noncurrent_version_expiration]
            assert found == [days], name
