# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients of the object store notice of lost nodes and drives: nothing of one node, refused writes of two, and nothing of a drive that is replaced.

Objects are put and read through the virtual address with the vendor's client, which repeats a failed request, as all clients of the platform do.
"""

from __future__ import annotations

import dataclasses
import io
import threading
import time
import typing as t
import uuid

import minio
import pytest
import support
import urllib3

COMPOSE = "docker compose --project-name minio"
BUCKET = "bronze"


def client(endpoint: str, patience: int = 5) -> minio.Minio:
    """The administrator's client; ``patience`` is how often it repeats a request that failed."""
    retries = urllib3.Retry(total=patience, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504])
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=20), retries=retries, ca_certs=support.ca_file(), cert_reqs="CERT_REQUIRED")
    secrets = support.secrets()
    return minio.Minio(endpoint=endpoint, access_key="platform-root", secret_key=secrets["minio_root_password"], region="us-east-1", http_client=pool)


@dataclasses.dataclass
class Store:
    """Objects with a prefix of their own; ``put`` are those whose writing was acknowledged."""

    s3: minio.Minio
    prefix: str = dataclasses.field(default_factory=lambda: f"e2e-{uuid.uuid4().hex[:8]}")
    put: dict[str, bytes] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    def write(self) -> None:
        name = f"{self.prefix}/{len(self.put)}"
        # Larger than what is kept inside of the metadata, so that there are parts on the drives.
        content = uuid.uuid4().bytes * 20_000
        self.s3.put_object(bucket_name=BUCKET, object_name=name, data=io.BytesIO(content), length=len(content))
        self.put[name] = content

    def read(self, name: str, s3: minio.Minio | None = None) -> bytes:
        answer = (s3 or self.s3).get_object(bucket_name=BUCKET, object_name=name)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def assert_all_there(self, s3: minio.Minio | None = None) -> None:
        assert [name for name, content in self.put.items() if self.read(name, s3) != content] == []

    def work(self) -> None:
        while not self.stop.wait(0.1):
            try:
                self.write()
                name = next(iter(self.put))
                if self.read(name) != self.put[name]:
                    self.failures.append(f"{name} is not what was written")
            except (minio.error.MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
                self.failures.append(repr(exc))

    def __enter__(self) -> Store:
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        support.wait_for("the first objects", lambda: len(self.put) > 3 or bool(self.failures), 60)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop.set()
        self.thread.join(120)


@pytest.fixture
def store() -> t.Iterator[Store]:
    made = Store(client(f"{support.vip()}:9000"))
    yield made
    for name in made.put:
        made.s3.remove_object(bucket_name=BUCKET, object_name=name)


@pytest.fixture
def nodes() -> t.Iterator[list[str]]:
    """The hosts, all of them well before and after."""
    found = support.group("minio")
    assert support.gate("minio", wait=True).code == 0
    yield found
    for host in found:
        support.ssh(host, f"{COMPOSE} start", check=False, timeout=180)
    run = support.gate("minio", wait=True, seconds=240)
    assert run.code == 0, run.text[-2000:]


def test_nobody_notices_that_one_node_is_lost_and_comes_back(nodes: list[str], store: Store) -> None:
    lost = nodes[-1]
    with store:
        support.ssh(lost, f"{COMPOSE} kill")
        time.sleep(8)
        run = support.gate("minio")
        assert run.code != 0 and f"MINIO_OFFLINE {lost}" in run.text, run.text[-2000:]
        # With one node away none of the others may go.
        other = support.gate("minio", "before", nodes[0])
        assert other.code != 0 and "MINIO_NEEDED" in other.text, other.text[-2000:]
        support.ssh(lost, f"{COMPOSE} start")
        assert support.gate("minio", "after", lost, wait=True, seconds=180).code == 0
    assert store.failures == [], store.failures[:5]
    print(f"{len(store.put)} objects written and read, none failed")
    store.assert_all_there()
    store.assert_all_there(client(f"{support.address(lost)}:9000"))


def test_without_two_nodes_all_is_read_and_nothing_is_written(nodes: list[str], store: Store) -> None:
    for _number in range(5):
        store.write()
    lost = nodes[-2:]
    for host in lost:
        support.ssh(host, f"{COMPOSE} kill")
    impatient = client(f"{support.vip()}:9000", patience=0)

    def refused() -> bool:
        with pytest.raises((minio.error.MinioException, urllib3.exceptions.HTTPError)):
            impatient.put_object(bucket_name=BUCKET, object_name=f"{store.prefix}/refused", data=io.BytesIO(b"x"), length=1)
        return True

    support.wait_for("a refused write", refused, 60)
    support.wait_for("reads by the virtual address", lambda: store.read(next(iter(store.put)), impatient) != b"", 60)
    store.assert_all_there()
    run = support.gate("minio")
    assert run.code != 0 and all(f"MINIO_OFFLINE {host}" in run.text for host in lost), run.text[-2000:]
    for host in lost:
        support.ssh(host, f"{COMPOSE} start")
    assert support.gate("minio", wait=True, seconds=180).code == 0
    store.write()
    store.assert_all_there()
    assert not [item for item in store.s3.list_objects(bucket_name=BUCKET, prefix=f"{store.prefix}/refused")]


def test_a_replaced_drive_is_filled_again_by_a_converge(nodes: list[str], store: Store) -> None:
    """The folder is gone, as a mount point is after the drive behind it was changed for an empty one."""
    host = nodes[1]
    drive = str(support.hostvars(host).get("minio_drives", ["/srv/platform/minio/data1"])[0])
    for _number in range(10):
        store.write()
    with store:
        support.ssh(host, f"{COMPOSE} stop; rm -rf {drive}", timeout=180)
        run = support.playbook("minio-drive", "-e", "tier=minio", playbook="playbooks/tier.yml")
        assert run.code == 0, run.text[-3000:]
        assert support.gate("minio", "after", host, wait=True, seconds=240).code == 0
    assert store.failures == [], store.failures[:5]

    def missing() -> list[str]:
        there = set(support.ssh(host, f"cd {drive}/{BUCKET} && find {store.prefix} -name xl.meta").split())
        return [name for name in store.put if f"{name}/xl.meta" not in there]

    took = support.wait_for("all objects on the new drive", lambda: missing() == [], 180, 2)
    print(f"{len(store.put)} objects, all on the new drive {took:.0f} s after the gate passed")
    store.assert_all_there()
