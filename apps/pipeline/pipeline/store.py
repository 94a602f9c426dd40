# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store: a thin layer over the MinIO client with time limits and errors that name bucket and key."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import typing as t

import certifi
import minio
import urllib3
from minio.error import InvalidResponseError, S3Error, ServerError

from .errors import StoreError
from .settings import StoreSettings

_CHUNK = 1 << 20


class Store:
    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file or certifi.where(),
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=urllib3.Retry(total=3, backoff_factor=0.3, status_forcelist=(500, 502, 503, 504)),
            maxsize=8,
        )
        self.client = minio.Minio(
            settings.endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=settings.secure,
            region=settings.region,
            http_client=pool,
        )

    @contextlib.contextmanager
    def _errors(self, action: str, bucket: str, key: str) -> t.Iterator[None]:
        try:
            yield
        except S3Error as exc:
            retryable = exc.code not in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "NoSuchKey")
            raise StoreError(f"cannot {action} s3://{bucket}/{key}: {exc.code}: {exc.message}", retryable=retryable) from exc
        except (InvalidResponseError, ServerError) as exc:
            raise StoreError(f"cannot {action} s3://{bucket}/{key}: {exc}") from exc
        except urllib3.exceptions.HTTPError as exc:
            reason = getattr(exc, "reason", None) or exc
            raise StoreError(f"cannot {action} s3://{bucket}/{key}: {self.settings.endpoint} did not answer: {reason}") from exc

    def etag(self, bucket: str, key: str) -> str | None:
        """The object's etag, or None if there is no such object."""
        with self._errors("look up", bucket, key):
            try:
                return str(self.client.stat_object(bucket, key).etag)
            except S3Error as exc:
                if exc.code in ("NoSuchKey", "NoSuchObject"):
                    return None
                raise

    def exists(self, bucket: str, key: str) -> bool:
        return self.etag(bucket, key) is not None

    def get_json(self, bucket: str, key: str) -> dict[str, t.Any] | None:
        with self._errors("read", bucket, key):
            try:
                response = self.client.get_object(bucket, key)
            except S3Error as exc:
                if exc.code in ("NoSuchKey", "NoSuchObject"):
                    return None
                raise
            try:
                data = response.read()
            finally:
                response.close()
                response.release_conn()
        try:
            document = json.loads(data)
        except ValueError as exc:
            raise StoreError(f"s3://{bucket}/{key} is not JSON: {exc}", retryable=False) from exc
        if not isinstance(document, dict):
            raise StoreError(f"s3://{bucket}/{key} is not a JSON object", retryable=False)
        return document

    def put_json(self, bucket: str, key: str, document: dict[str, t.Any]) -> None:
        data = json.dumps(document, indent=1, sort_keys=True, default=str).encode()
        with self._errors("write", bucket, key):
            self.client.put_object(bucket, key, io.BytesIO(data), len(data), content_type="application/json")

    def download(self, bucket: str, key: str, path: str, limit: int | None = None) -> str:
        """Fetch an object into a file; returns the content's SHA-256."""
        with self._errors("read", bucket, key):
            response = self.client.get_object(bucket, key)
            try:
                return copy_hashed(response.stream(_CHUNK), path, limit, f"s3://{bucket}/{key}")
            finally:
                response.close()
                response.release_conn()

    def upload(self, bucket: str, key: str, path: str, content_type: str) -> str:
        """Store a file; returns the object's etag."""
        with self._errors("write", bucket, key):
            return str(self.client.fput_object(bucket, key, path, content_type=content_type).etag)

    def list_keys(self, bucket: str, prefix: str) -> list[tuple[str, t.Any]]:
        with self._errors("list", bucket, prefix):
            return [(item.object_name, item.last_modified) for item in self.client.list_objects(bucket, prefix=prefix, recursive=True)]

    def remove(self, bucket: str, key: str) -> None:
        with self._errors("remove", bucket, key):
            self.client.remove_object(bucket, key)


def copy_hashed(chunks: t.Iterable[bytes], path: str, limit: int | None, what: str) -> str:
    """Write chunks to a file, hashing on the way, and stop at the size limit."""
    sha = hashlib.sha256()
    size = 0
    with open(path, "wb") as handle:
        for chunk in chunks:
            size += len(chunk)
            if limit is not None and size > limit:
                raise StoreError(f"{what} is larger than PIPELINE_MAX_SOURCE_BYTES ({limit})", retryable=False)
            sha.update(chunk)
            handle.write(chunk)
    return sha.hexdigest()
