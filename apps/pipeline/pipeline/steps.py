# SPDX-License-Identifier: GPL-3.0-or-later
"""The four steps. Each can be repeated: work that is already done is recognised and left alone.

bronze  <table>/load_id=<id>/data.<ext> and metadata.json, the file as it came; <table>/_latest.json points to the load in use
silver  <table>/data.parquet, typed, and <table>/_manifest.json
gold    <table>/<content hash>.parquet and <table>/_manifest.json, written last: a reader sees the old table or the new one
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import pathlib
import shutil
import tempfile
import time
import typing as t
import urllib.error
import urllib.request
import uuid

from . import engine, logs, metrics, quality
from .config import Config, Gold, Table, digest
from .errors import PipelineError, QualityError, RunFailed, SourceError, StoreError, ValidationError
from .events import Recorder
from .settings import Settings
from .store import Store, copy_hashed

log = logging.getLogger("pipeline.steps")

LATEST = "_latest.json"
MANIFEST = "_manifest.json"
PARQUET = "application/vnd.apache.parquet"
# Part of every fingerprint: raise it when the way tables are built changes, and all are built again.
BUILD = 1


@dataclasses.dataclass
class Context:
    settings: Settings
    config: Config
    store: Store
    recorder: Recorder
    run_id: str

    @contextlib.contextmanager
    def scratch(self) -> t.Iterator[str]:
        directory = tempfile.mkdtemp(prefix="pipeline-", dir=self.settings.scratch)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def duckdb(self, scratch: str) -> t.Any:
        return engine.connect(scratch, self.settings.memory_limit, self.settings.threads)


def new_run_id() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


Outcome = tuple[str, dict[str, t.Any]]


def extract_and_load(context: Context, table: Table) -> Outcome:
    """Copy the source, as it is, to bronze, under a name made from its content."""
    store, bronze = context.store, context.settings.store.bronze
    with context.scratch() as scratch:
        path = os.path.join(scratch, f"data.{table.extension}")
        sha256 = _fetch(context, table, path)
        size = os.path.getsize(path)
        if size == 0:
            raise SourceError(f"the source {_shown(table.uri)} is empty")
        load_id = sha256[:16]
        prefix = f"{table.name}/load_id={load_id}"
        pointer: dict[str, t.Any] = {
            "table": table.name,
            "load_id": load_id,
            "object": f"{prefix}/data.{table.extension}",
            "format": table.format,
            "sha256": sha256,
            "size": size,
        }
        latest = store.get_json(bronze, f"{table.name}/{LATEST}") or {}
        if {name: latest.get(name) for name in pointer} == pointer:
            return "unchanged", {"load_id": load_id, "bytes": size}
        # metadata is written after the data, so its presence says that the data is complete
        if store.get_json(bronze, f"{prefix}/metadata.json") is None or not store.exists(bronze, pointer["object"]):
            store.upload(bronze, pointer["object"], path, "application/octet-stream")
            metadata = {**pointer, "source": _shown(table.uri), "options": table.options, "extracted_at": now(), "run_id": context.run_id}
            store.put_json(bronze, f"{prefix}/metadata.json", metadata)
        store.put_json(bronze, f"{table.name}/{LATEST}", {**pointer, "run_id": context.run_id, "loaded_at": now()})
    return "done", {"load_id": load_id, "bytes": size}


def transform_with_duckdb(context: Context, table: Table) -> Outcome:
    """Build the typed silver table from bronze and check it; silver changes only if every rule holds."""
    store, buckets = context.store, context.settings.store
    load = store.get_json(buckets.bronze, f"{table.name}/{LATEST}")
    if load is None:
        raise PipelineError(f"bronze has no load of table {table.name}: run extract_and_load first")
    fingerprint = digest(BUILD, load["load_id"], table.format, table.options, table.silver_sql, table.key, table.rules)
    known = store.get_json(buckets.silver, f"{table.name}/{MANIFEST}") or {}
    # the data object too: a run that was cut off may have replaced it and not the manifest
    if known.get("fingerprint") == fingerprint and store.etag(buckets.silver, known["object"]) == known["etag"]:
        return "unchanged", {"load_id": load["load_id"], "rows": known["rows"]}
    with context.scratch() as scratch:
        raw = os.path.join(scratch, f"data.{table.extension}")
        if store.download(buckets.bronze, load["object"], raw) != load["sha256"]:
            raise StoreError(f"s3://{buckets.bronze}/{load['object']} is not what was loaded: its SHA-256 differs", retryable=False)
        with context.duckdb(scratch) as connection:
            engine.read_source(connection, table, raw)
            engine.make(connection, "silver", table.silver_sql, f"the silver SQL of table {table.name}")
            results = quality.check(connection, "silver", table.name, "silver", table.rules, table.key)
            _report(table.name, "silver", results)
            path = os.path.join(scratch, "silver.parquet")
            sha256 = engine.write_parquet(connection, "silver", path, table.key)
            rows, columns = engine.count(connection, "silver"), engine.describe(connection, "silver")
        key = f"{table.name}/data.parquet"
        etag = store.upload(buckets.silver, key, path, PARQUET)
        manifest = _manifest(context, table.name, key, path, rows, columns, table.key, sha256, etag, load["load_id"], fingerprint, results)
        store.put_json(buckets.silver, f"{table.name}/{MANIFEST}", manifest)
    return "done", {"load_id": load["load_id"], "rows": rows}


def load_to_gold(context: Context, table: Table) -> Outcome:
    """Build every gold table of a source, check all of them, and only then publish them."""
    store, buckets = context.store, context.settings.store
    silver = store.get_json(buckets.silver, f"{table.name}/{MANIFEST}")
    if silver is None:
        raise PipelineError(f"silver has no table {table.name}: run transform_with_duckdb first")
    wanted = []
    for gold in table.gold:
        fingerprint = digest(BUILD, silver["fingerprint"], silver["sha256"], gold)
        known = store.get_json(buckets.gold, f"{gold.name}/{MANIFEST}") or {}
        if known.get("fingerprint") != fingerprint or store.etag(buckets.gold, known["object"]) != known["etag"]:
            wanted.append((gold, fingerprint))
    if not wanted:
        return "unchanged", {"load_id": silver["source_load_id"], "tables": [gold.name for gold in table.gold]}
    with context.scratch() as scratch:
        path = os.path.join(scratch, "silver.parquet")
        if store.download(buckets.silver, silver["object"], path) != silver["sha256"]:
            # silver's data object was replaced and its manifest not yet: a run that is going on or was cut off
            raise StoreError(f"s3://{buckets.silver}/{silver['object']} is not what its manifest says: its SHA-256 differs")
        staged: list[tuple[Gold, str, dict[str, t.Any]]] = []
        failures: list[QualityError] = []
        with context.duckdb(scratch) as connection:
            engine.read_parquet(connection, "silver", path)
            for gold, fingerprint in wanted:
                engine.make(connection, "gold", gold.sql, f"the gold SQL of table {gold.name}")
                try:
                    results = quality.check(connection, "gold", gold.name, "gold", gold.rules, gold.key)
                except QualityError as exc:
                    failures.append(exc)
                    continue
                _report(gold.name, "gold", results)
                file = os.path.join(scratch, f"gold-{gold.name}.parquet")
                sha256 = engine.write_parquet(connection, "gold", file, gold.key)
                rows, columns = engine.count(connection, "gold"), engine.describe(connection, "gold")
                key = f"{gold.name}/{sha256[:32]}.parquet"
                manifest = _manifest(context, gold.name, key, file, rows, columns, gold.key, sha256, "", silver["source_load_id"], fingerprint, results)
                staged.append((gold, file, manifest))
        if failures:
            if len(failures) == 1:
                raise failures[0]
            merged = [{**f, "rule": f"{error.table}: {f['rule']}"} for error in failures for f in error.failures]
            raise QualityError(table.name, "gold", merged, silver["rows"])
        for _gold, file, manifest in staged:
            manifest["etag"] = store.upload(buckets.gold, manifest["object"], file, PARQUET)
        for gold, _file, manifest in staged:
            store.put_json(buckets.gold, f"{gold.name}/{MANIFEST}", manifest)
            context.recorder.publish(gold.name, "load_to_gold", "published", rows=manifest["rows"])
            metrics.emit("rows", table=gold.name, value=manifest["rows"])
    for gold, _file, manifest in staged:
        _sweep(context, gold.name, manifest["object"])
    return "done", {"load_id": silver["source_load_id"], "tables": [gold.name for gold, _file, _manifest in staged]}


def validate_pipeline(context: Context, table: Table) -> Outcome:
    """Compare what lies in the buckets with what the manifests say, through all three layers."""
    store, buckets = context.store, context.settings.store
    findings: list[str] = []
    load = store.get_json(buckets.bronze, f"{table.name}/{LATEST}")
    silver = store.get_json(buckets.silver, f"{table.name}/{MANIFEST}")
    if load is None:
        findings.append(f"bronze has no load of table {table.name}")
    elif not store.exists(buckets.bronze, load["object"]):
        findings.append(f"bronze object {load['object']} is missing")
    if silver is None:
        findings.append(f"silver has no table {table.name}")
    elif load is not None and silver["source_load_id"] != load["load_id"]:
        findings.append(f"silver table {table.name} is built from load {silver['source_load_id']}, bronze holds {load['load_id']}")
    rows: dict[str, int] = {}
    for gold in table.gold:
        manifest = store.get_json(buckets.gold, f"{gold.name}/{MANIFEST}")
        if manifest is None:
            findings.append(f"gold has no table {gold.name}")
            continue
        rows[gold.name] = manifest["rows"]
        if silver is not None and manifest["source_load_id"] != silver["source_load_id"]:
            findings.append(f"gold table {gold.name} is built from load {manifest['source_load_id']}, silver from {silver['source_load_id']}")
        findings.extend(_compare(context, gold.name, manifest))
    if findings:
        raise ValidationError("; ".join(findings))
    return "done", {"rows": rows}


def _compare(context: Context, name: str, manifest: dict[str, t.Any]) -> list[str]:
    store, bucket = context.store, context.settings.store.gold
    if not store.exists(bucket, manifest["object"]):
        return [f"gold object {manifest['object']} is missing"]
    with context.scratch() as scratch:
        path = os.path.join(scratch, "gold.parquet")
        if store.download(bucket, manifest["object"], path) != manifest["sha256"]:
            return [f"gold object {manifest['object']} differs from its manifest's SHA-256"]
        with context.duckdb(scratch) as connection:
            engine.read_parquet(connection, "gold", path)
            rows, columns = engine.count(connection, "gold"), engine.describe(connection, "gold")
    findings = []
    if rows != manifest["rows"]:
        findings.append(f"gold table {name} has {rows} rows, its manifest says {manifest['rows']}")
    if columns != manifest["columns"]:
        findings.append(f"gold table {name} has other columns than its manifest")
    return findings


STEPS: dict[str, t.Callable[[Context, Table], Outcome]] = {
    "extract_and_load": extract_and_load,
    "transform_with_duckdb": transform_with_duckdb,
    "load_to_gold": load_to_gold,
    "validate_pipeline": validate_pipeline,
}


def run(context: Context, names: t.Sequence[str] | None = None, steps: t.Sequence[str] = tuple(STEPS)) -> dict[str, t.Any]:
    """Run steps for tables, one table after the other. A table that fails does not keep the others from loading."""
    tables = context.config.select(names)
    report: dict[str, t.Any] = {"run_id": context.run_id, "tables": {}}
    failures: list[PipelineError] = []
    with logs.bound_run(context.run_id):
        context.recorder.start([table.name for table in tables])
        for table in tables:
            outcome: dict[str, t.Any] = {}
            report["tables"][table.name] = outcome
            with context.recorder.lock(table.name):
                for step in steps:
                    error = _run_step(context, table, step, outcome)
                    if error is not None:
                        failures.append(error)
                        break
        if failures:
            raise RunFailed(context.run_id, failures)
        context.recorder.finish("succeeded", None)
    return report


def _run_step(context: Context, table: Table, step: str, outcome: dict[str, t.Any]) -> PipelineError | None:
    context.recorder.step(table.name, step, "started")
    started = time.monotonic()
    error: PipelineError | None = None
    try:
        status, detail = STEPS[step](context, table)
    except PipelineError as exc:
        error = exc
        status, detail = "failed", {"message": str(exc), "rule": exc.rule}
    except OSError as exc:
        error = PipelineError(f"{type(exc).__name__}: {exc}", retryable=True)
        status, detail = "failed", {"message": str(error), "rule": None}
    seconds = round(time.monotonic() - started, 3)
    outcome[step] = {"status": status, "seconds": seconds, **detail}
    metrics.emit("step", step=step, status=status, seconds=seconds)
    context.recorder.step(table.name, step, status, seconds=seconds, **detail)
    if error is None:
        log.info("%s %s: %s", table.name, step, status, extra={"table": table.name, "step": step, "seconds": seconds, **detail})
        return None
    error.table = error.table or table.name
    error.step = step
    log.error("%s %s: %s", table.name, step, error, extra={"table": table.name, "step": step, "seconds": seconds, "rule": error.rule})
    return error


def _fetch(context: Context, table: Table, path: str) -> str:
    limit = context.settings.max_source_bytes
    if table.scheme == "s3":
        bucket, _, key = table.uri.removeprefix("s3://").partition("/")
        return context.store.download(bucket, key, path, limit)
    try:
        if table.scheme == "file":
            with open(table.uri.removeprefix("file://"), "rb") as handle:
                return copy_hashed(iter(lambda: handle.read(1 << 20), b""), path, limit, table.uri)
        request = urllib.request.Request(table.uri, headers={"User-Agent": "platform-pipeline"})  # noqa: S310 - scheme checked by config
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return copy_hashed(iter(lambda: response.read(1 << 20), b""), path, limit, _shown(table.uri))
    except FileNotFoundError as exc:
        raise SourceError(f"the source {_shown(table.uri)} does not exist") from exc
    except urllib.error.HTTPError as exc:
        raise SourceError(f"the source {_shown(table.uri)} answered {exc.code} {exc.reason}", retryable=exc.code >= 500 or exc.code == 429) from exc
    except OSError as exc:
        reason = getattr(exc, "reason", None) or exc.strerror or exc
        raise SourceError(f"the source {_shown(table.uri)} cannot be read: {reason}", retryable=table.scheme != "file") from exc


def _shown(uri: str) -> str:
    """A URI without credentials and query, which may hold a token."""
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _manifest(
    context: Context,
    name: str,
    key: str,
    path: str,
    rows: int,
    columns: list[dict[str, str]],
    table_key: t.Sequence[str],
    sha256: str,
    etag: str,
    load_id: str,
    fingerprint: str,
    results: list[dict[str, t.Any]],
) -> dict[str, t.Any]:
    return {
        "version": 1,
        "table": name,
        "object": key,
        "rows": rows,
        "columns": columns,
        "key": list(table_key),
        "bytes": pathlib.Path(path).stat().st_size,
        "sha256": sha256,
        "etag": etag,
        "source_load_id": load_id,
        "fingerprint": fingerprint,
        "built_at": now(),
        "run_id": context.run_id,
        "quality": [{"rule": r["rule"], "severity": r["severity"], "violations": r["violations"]} for r in results],
    }


def _report(table: str, layer: str, results: list[dict[str, t.Any]]) -> None:
    for result in results:
        if result["violations"]:
            metrics.emit("violations", table=table, severity=result["severity"], value=result["violations"])
            log.warning(
                "%s table %s: rule %s: %s",
                layer,
                table,
                result["rule"],
                result["message"],
                extra={"table": table, "layer": layer, "rule": result["rule"], "sample": result["sample"]},
            )


def _sweep(context: Context, name: str, current: str) -> None:
    """Remove data objects that readers can no longer need; the bucket's versioning still keeps them for its time."""
    bucket = context.settings.store.gold
    try:
        objects = [item for item in context.store.list_keys(bucket, f"{name}/") if item[0].endswith(".parquet") and item[0] != current]
        objects.sort(key=lambda item: item[1], reverse=True)
        for key, _modified in objects[context.settings.gold_keep - 1 :]:
            context.store.remove(bucket, key)
    except StoreError as exc:
        log.warning("old objects of gold table %s stay: %s", name, exc, extra={"table": name})
