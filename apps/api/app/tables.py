# SPDX-License-Identifier: GPL-3.0-or-later
"""Gold tables: their manifests in the object store, their Parquet files in a local cache, and queries on them."""

from __future__ import annotations

import base64
import csv
import dataclasses
import datetime
import decimal
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import tempfile
import threading
import time
import typing as t
import uuid

import certifi
import duckdb
import minio
import urllib3
from minio.error import MinioException, S3Error

from . import metrics
from .problems import Problem
from .settings import Settings

log = logging.getLogger("app.tables")

MANIFEST = "_manifest.json"
TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OBJECT = re.compile(r"[a-z][a-z0-9_]{0,62}/[0-9a-f]{32,64}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Types that a filter may compare: a type's text goes into the query, so only these forms are let through.
_SCALAR = re.compile(
    r"(BOOLEAN|(U)?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL\([0-9]+,[0-9]+\)|VARCHAR|UUID|DATE|TIME"
    r"|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE)"
)
OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ACCEPTED_OPERATORS = (*OPERATORS, "in", "like")
MAX_FILTERS = 20
MAX_VALUES = 200
MAX_OFFSET = 10_000_000


class Unavailable(Exception):
    """The object store did not answer or gave something that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    table: str
    object: str
    rows: int
    columns: dict[str, str]
    sha256: str
    bytes: int
    source_load_id: str
    built_at: str
    run_id: str

    @property
    def etag(self) -> str:
        return self.sha256

    @classmethod
    def parse(cls, name: str, document: t.Any) -> Manifest:
        try:
            manifest = cls(
                table=name,
                object=document["object"],
                rows=int(document["rows"]),
                columns={str(column["name"]): str(column["type"]) for column in document["columns"]},
                sha256=document["sha256"],
                bytes=int(document["bytes"]),
                source_load_id=str(document["source_load_id"]),
                built_at=str(document["built_at"]),
                run_id=str(document["run_id"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable(f"the manifest of table {name} is malformed: {exc!r}") from exc
        if not _OBJECT.fullmatch(str(manifest.object)) or not _SHA256.fullmatch(str(manifest.sha256)) or not manifest.columns:
            raise Unavailable(f"the manifest of table {name} names no usable object")
        return manifest

    def describe(self) -> dict[str, t.Any]:
        return {
            "name": self.table,
            "rows": self.rows,
            "columns": [{"name": name, "type": kind} for name, kind in self.columns.items()],
            "etag": self.etag,
            "bytes": self.bytes,
            "built_at": self.built_at,
            "source_load_id": self.source_load_id,
            "run_id": self.run_id,
        }


class GoldStore:
    """Manifests and objects of the gold bucket."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bucket = settings.bucket_gold
        self.client = self._client(settings, urllib3.Timeout(connect=2, read=15), 2)
        # a probe must answer before the load balancer's check gives up
        self.prober = self._client(settings, urllib3.Timeout(connect=1, read=1.5), 0)

    @staticmethod
    def _client(settings: Settings, timeout: urllib3.Timeout, retries: int) -> minio.Minio:
        pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.minio_ca_file or certifi.where(),
            timeout=timeout,
            retries=urllib3.Retry(total=retries, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504) if retries else ()),
            maxsize=16,
        )
        return minio.Minio(
            settings.minio_endpoint,
            access_key=settings.minio_access_key,
            secret_key=settings.minio_secret_key,
            secure=settings.minio_secure,
            region=settings.minio_region,
            http_client=pool,
        )

    def ping(self) -> None:
        try:
            if not self.prober.bucket_exists(self.bucket):
                raise Unavailable(f"bucket {self.bucket} does not exist")
        except S3Error as exc:
            raise Unavailable(f"{exc.code}") from exc
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise Unavailable(type(exc).__name__) from exc

    def names(self) -> list[str]:
        try:
            prefixes = [item.object_name.rstrip("/") for item in self.client.list_objects(self.bucket) if item.is_dir]
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise Unavailable(_reason(exc)) from exc
        return sorted(name for name in prefixes if TABLE.fullmatch(name))

    def manifest(self, name: str) -> Manifest | None:
        try:
            response = self.client.get_object(self.bucket, f"{name}/{MANIFEST}")
            try:
                data = response.read()
            finally:
                response.close()
                response.release_conn()
        except S3Error as exc:
            if exc.code in ("NoSuchKey", "NoSuchObject"):
                return None
            raise Unavailable(_reason(exc)) from exc
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise Unavailable(_reason(exc)) from exc
        try:
            return Manifest.parse(name, json.loads(data))
        except ValueError as exc:
            raise Unavailable(f"the manifest of table {name} is not JSON") from exc

    def download(self, manifest: Manifest, path: str) -> None:
        sha = hashlib.sha256()
        try:
            response = self.client.get_object(self.bucket, manifest.object)
            try:
                with open(path, "wb") as handle:
                    for chunk in response.stream(1 << 20):
                        sha.update(chunk)
                        handle.write(chunk)
            finally:
                response.close()
                response.release_conn()
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise Unavailable(_reason(exc)) from exc
        if sha.hexdigest() != manifest.sha256:
            raise Unavailable(f"object {manifest.object} differs from its manifest's SHA-256")
        metrics.OBJECTS.inc()


def _reason(exc: BaseException) -> str:
    return f"{exc.code}: {exc.message}" if isinstance(exc, S3Error) else type(exc).__name__


class FileCache:
    """Gold files on local disk, named by content. Bounded in size; the least recently used go first."""

    def __init__(self, directory: str, limit: int, store: GoldStore) -> None:
        self.directory = pathlib.Path(directory)
        self.limit = limit
        self.store = store
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, manifest: Manifest) -> pathlib.Path:
        """The file of this content; fetched once, also by threads that ask at the same time."""
        path = self.directory / f"{manifest.sha256}.parquet"
        with self._guard:
            lock = self._locks.setdefault(manifest.sha256, threading.Lock())
        with lock:
            try:
                os.utime(path)
                return path
            except FileNotFoundError:
                pass
            self._evict(manifest.bytes, path)
            handle, temporary = tempfile.mkstemp(prefix=".load-", dir=self.directory)
            os.close(handle)
            try:
                self.store.download(manifest, temporary)
                os.replace(temporary, path)
            except BaseException:
                pathlib.Path(temporary).unlink(missing_ok=True)
                raise
        return path

    def _evict(self, wanted: int, keep: pathlib.Path) -> None:
        with self._guard:
            files = []
            for path in self.directory.iterdir():
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                if path.name.startswith(".load-"):
                    # left by a process that was killed; a live download is younger
                    if time.time() - stat.st_mtime > 3600:
                        path.unlink(missing_ok=True)
                elif path.suffix == ".parquet" and path != keep:
                    files.append((stat.st_mtime, stat.st_size, path))
            total = sum(size for _mtime, size, _path in files)
            for _mtime, size, path in sorted(files):
                if total + wanted <= self.limit:
                    break
                path.unlink(missing_ok=True)
                self._locks.pop(path.stem, None)
                total -= size


@dataclasses.dataclass(frozen=True)
class Query:
    columns: tuple[str, ...]
    filters: tuple[tuple[str, str, str], ...]
    order: tuple[tuple[str, bool], ...]
    limit: int
    offset: int

    @classmethod
    def parse(cls, manifest: Manifest, columns: str | None, filters: t.Sequence[str], order_by: str | None, limit: int, offset: int) -> Query:
        """Check every name against the manifest: nothing that a client sent gets into the SQL text."""

        def known(name: str, parameter: str) -> str:
            if name not in manifest.columns:
                raise Problem(422, "unknown-column", f"{parameter}: table {manifest.table} has no column {name!r}.", columns=list(manifest.columns))
            return name

        chosen = tuple(known(name, "columns") for name in columns.split(",")) if columns else tuple(manifest.columns)
        if len(set(chosen)) != len(chosen):
            raise Problem(422, "invalid-columns", "columns: a column is named twice.")
        if len(filters) > MAX_FILTERS:
            raise Problem(422, "too-many-filters", f"filter: at most {MAX_FILTERS} are accepted.")
        parsed = []
        for text in filters:
            parts = text.split(":", 2)
            if len(parts) != 3:
                raise Problem(422, "invalid-filter", "filter: accepted: column:operator:value.", operators=list(ACCEPTED_OPERATORS))
            name, operator, value = parts
            kind = manifest.columns[known(name, "filter")]
            if operator not in ACCEPTED_OPERATORS:
                raise Problem(422, "invalid-filter", f"filter: operator {operator!r} is not accepted.", operators=list(ACCEPTED_OPERATORS))
            if not _SCALAR.fullmatch(kind):
                raise Problem(422, "invalid-filter", f"filter: column {name!r} of type {kind} cannot be filtered.")
            if operator == "like" and kind != "VARCHAR":
                raise Problem(422, "invalid-filter", f"filter: like needs a text column; {name!r} is {kind}.")
            parsed.append((name, operator, value))
        order = []
        for word in order_by.split(",") if order_by else []:
            order.append((known(word.removeprefix("-"), "order_by"), word.startswith("-")))
        return cls(chosen, tuple(parsed), tuple(order), limit, offset)

    def key(self, manifest: Manifest) -> str:
        text = json.dumps([manifest.table, manifest.sha256, dataclasses.astuple(self)])
        return hashlib.sha256(text.encode()).hexdigest()

    def where(self, manifest: Manifest) -> tuple[str, list[t.Any]]:
        terms: list[str] = []
        parameters: list[t.Any] = []
        for name, operator, value in self.filters:
            column, kind = quote(name), manifest.columns[name]
            if operator == "in":
                values = next(csv.reader([value]), [])
                if not 0 < len(values) <= MAX_VALUES:
                    raise Problem(422, "invalid-filter", f"filter: in takes 1 to {MAX_VALUES} values, separated by commas.")
                terms.append(f"{column} IN ({', '.join(f'CAST(? AS {kind})' for _ in values)})")
                parameters.extend(values)
            elif operator == "like":
                terms.append(f"{column} LIKE ?")
                parameters.append(value)
            else:
                terms.append(f"{column} {OPERATORS[operator]} CAST(? AS {kind})")
                parameters.append(value)
        return (" WHERE " + " AND ".join(terms)) if terms else "", parameters


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Engine:
    """One DuckDB instance, limited in memory, that can read the file cache and nothing else. A cursor for each query."""

    def __init__(self, settings: Settings) -> None:
        self.timeout = settings.query_timeout
        self.read_only = settings.duckdb_read_only
        directory = str(pathlib.Path(settings.duckdb_path).absolute()).replace("'", "''")
        self.connection = duckdb.connect(":memory:", config={"memory_limit": settings.duckdb_memory_limit, "threads": settings.duckdb_threads})
        for statement in (
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET temp_directory = ''",
            "SET TimeZone = 'UTC'",
            f"SET allowed_directories = ['{directory}']",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self.connection.execute(statement)

    def fetch(self, statements: t.Sequence[tuple[str, t.Sequence[t.Any]]]) -> list[list[tuple[t.Any, ...]]]:
        """Run the statements one after the other, all within the time limit."""
        for sql, _parameters in statements:
            if self.read_only and any(s.type != duckdb.StatementType.SELECT for s in duckdb.extract_statements(sql)):
                raise PermissionError("DUCKDB_READ_ONLY allows SELECT only")
        with self.connection.cursor() as cursor:
            timer = threading.Timer(self.timeout, cursor.interrupt)
            timer.daemon = True
            timer.start()
            started = time.monotonic()
            try:
                return [cursor.execute(sql, list(parameters)).fetchall() for sql, parameters in statements]
            finally:
                timer.cancel()
                metrics.QUERIES.observe(time.monotonic() - started)

    def ping(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1").fetchone()


class Catalog:
    """The tables as the API sees them; everything here blocks and belongs in a worker thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = GoldStore(settings)
        self.files = FileCache(settings.duckdb_path, settings.duckdb_cache_bytes, self.store)
        self.engine = Engine(settings)
        self._manifests: dict[str, tuple[float, Manifest | None]] = {}
        self._names: tuple[float, list[str]] | None = None
        self._guard = threading.Lock()

    def forget(self) -> None:
        """A run published something: look again at the next request."""
        self._manifests.clear()
        self._names = None

    def remembered(self, name: str) -> Manifest | None:
        entry = self._manifests.get(name)
        return entry[1] if entry and time.monotonic() - entry[0] < self.settings.refresh_seconds else None

    def manifest(self, name: str) -> Manifest | None:
        with self._guard:
            entry = self._manifests.get(name)
            if entry and time.monotonic() - entry[0] < self.settings.refresh_seconds:
                return entry[1]
            try:
                manifest = self.store.manifest(name)
            except Unavailable as exc:
                if entry is None or entry[1] is None:
                    raise
                # what was published is still true; /ready tells that the store is away
                log.warning("manifest of table %s not refreshed: %s", name, exc)
                manifest = entry[1]
            if manifest is None and len(self._manifests) > 1000:
                self._manifests.clear()  # names that do not exist are a client's to choose
            self._manifests[name] = (time.monotonic(), manifest)
            return manifest

    def manifests(self) -> list[Manifest]:
        entry = self._names
        if entry is None or time.monotonic() - entry[0] >= self.settings.refresh_seconds:
            try:
                entry = (time.monotonic(), self.store.names())
            except Unavailable:
                if entry is None:
                    raise
            self._names = entry
        found = (self.manifest(name) for name in entry[1])
        return [manifest for manifest in found if manifest is not None]

    def rows(self, manifest: Manifest, query: Query) -> bytes:
        """The answer's JSON text."""
        where, parameters = query.where(manifest)
        # the file's own row order is the last criterion, so pages never overlap
        order = [f"{quote(name)} {'DESC' if descending else 'ASC'} NULLS LAST" for name, descending in query.order]
        selection = ", ".join(quote(name) for name in query.columns)
        for attempt in (1, 2):
            path = self.files.path(manifest)
            source = f"FROM read_parquet('{str(path.absolute()).replace(chr(39), chr(39) * 2)}', file_row_number = true)"
            statements: list[tuple[str, t.Sequence[t.Any]]] = [
                (
                    f"SELECT {selection} {source}{where} ORDER BY {', '.join([*order, 'file_row_number'])} LIMIT {int(query.limit)} OFFSET {int(query.offset)}",
                    parameters,
                )
            ]
            if where:
                statements.append((f"SELECT count(*) {source}{where}", parameters))
            try:
                results = self.engine.fetch(statements)
                break
            except duckdb.InterruptException as exc:
                raise Problem(503, "query-timeout", f"The query took longer than {self.engine.timeout} s.", headers={"Retry-After": "5"}) from exc
            except duckdb.IOException as exc:
                if attempt == 2:  # evicted between look-up and query: fetched once more
                    raise Unavailable(str(exc)) from exc
            except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException) as exc:
                raise Problem(422, "invalid-filter", f"filter: {str(exc).splitlines()[0]}") from exc
            except duckdb.OutOfMemoryException as exc:
                raise Problem(503, "query-too-large", "The query needs more memory than it may use.") from exc
        total = int(results[1][0][0]) if where else manifest.rows
        document = {
            "table": manifest.table,
            "etag": manifest.etag,
            "built_at": manifest.built_at,
            "columns": [{"name": name, "type": manifest.columns[name]} for name in query.columns],
            "rows": [dict(zip(query.columns, map(plain, row), strict=True)) for row in results[0]],
            "total": total,
            "limit": query.limit,
            "offset": query.offset,
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def plain(value: t.Any) -> t.Any:
    """A value as JSON: dates in ISO 8601, NaN and infinities as null, bytes in base64."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value)
