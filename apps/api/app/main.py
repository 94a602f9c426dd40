# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: `app.main:app`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import typing as t
import urllib.parse
import uuid

import anyio
import anyio.to_thread
import pydantic
import redis
import redis.asyncio
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from . import graph, insights, logs, metrics, problems, redis_client, runs, tables
from .announcements import TRY_AGAIN_LATER, Announcer
from .auth import Authority, Identity, LoginLimit, require_role, unauthorized
from .cache import ResultCache
from .insights import Conditions, Content, Insights
from .middleware import Observe
from .mongo import Document, Mongo
from .outbox import Outbox
from .problems import Problem
from .settings import Settings, SettingsError

POLICY_VIOLATION = 1008
LOGIN_BODY_LIMIT = 4096


class State:
    """What the routes share; made once for an application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draining = False
        self.authority = Authority(settings)
        self.catalog = tables.Catalog(settings)
        self.threads = anyio.CapacityLimiter(settings.query_concurrency)
        self.cache_redis: redis.asyncio.Redis | None = None
        self.queue_redis: redis.asyncio.Redis | None = None
        self.queue_blocking: redis.Redis | None = None
        if settings.redis_configured:
            self.cache_redis = redis_client.cache(settings)
            self.queue_redis = redis_client.queue(settings)
            self.queue_blocking = redis_client.queue_blocking(settings)
        self.cache = ResultCache(self.cache_redis, settings.cache_ttl)
        self.limit = LoginLimit(settings, self.cache_redis)
        self.announcer = Announcer(settings, self._on_event)
        self.mongo: Mongo | None = None
        self.insights: Insights | None = None
        self.graph: graph.Graph | None = None
        if settings.mongodb:
            self.mongo = Mongo(settings.mongodb)
            box = Outbox(self.mongo)
            self.insights = Insights(self.mongo, box)
            if settings.neo4j:
                self.graph = graph.Graph(settings.neo4j, box)
        self._sweeper: asyncio.Task[None] | None = None
        self._readiness: tuple[float, int, dict[str, t.Any]] | None = None
        self._probe = asyncio.Lock()
        metrics.INFO.labels(settings.version).set(1)

    def start(self) -> None:
        self.announcer.start()
        if self.insights is not None:
            self._sweeper = asyncio.create_task(self.insights.sweep_for_ever(), name="sweeper")

    def _on_event(self, event: dict[str, t.Any]) -> None:
        if event.get("status") == "published":
            self.catalog.forget()

    def drain(self) -> None:
        """Stop being ready; the load balancer takes the member out while it still serves."""
        self.draining = True
        metrics.READY.set(0)

    async def call(self, function: t.Callable[..., t.Any], *arguments: t.Any) -> t.Any:
        """Run something that blocks in a thread; as many at a time as DuckDB may serve."""
        try:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self.threads)
        except tables.Unavailable as exc:
            raise Problem(503, "data-unavailable", f"The object store cannot serve the table: {exc}.", headers={"Retry-After": "2"}) from exc

    async def readiness(self) -> tuple[int, dict[str, t.Any]]:
        """Ask every dependency, at most once a second however many ask us."""
        async with self._probe:
            if self._readiness is None or time.monotonic() - self._readiness[0] > 1.0:
                checks: dict[str, tuple[bool, t.Awaitable[str | None]]] = {
                    "minio": (True, self._in_thread(self.catalog.store.ping)),
                    "duckdb": (True, self._in_thread(self.catalog.engine.ping)),
                    "redis_cache": (False, self._ping(self.cache_redis)),
                    "redis_queue": (False, self._ping(self.queue_redis)),
                }
                # not required: all members share them, so a missing one would take every member, and with them the tables, out of the balancer
                if self.mongo is not None:
                    checks["mongodb"] = (False, self.mongo.ping())
                if self.graph is not None:
                    checks["neo4j"] = (False, self._graph_status(self.graph))
                results = dict(zip(checks, await asyncio.gather(*(self._check(*check) for check in checks.values())), strict=True))
                good = all(result["status"] == "up" or not result["required"] for result in results.values())
                whole = all(result["status"] in ("up", "off") for result in results.values())
                redis_parts = [results.pop("redis_cache"), results.pop("redis_queue")]
                results["redis"] = {
                    "status": "up" if all(p["status"] == "up" for p in redis_parts) else "off" if all(p["status"] == "off" for p in redis_parts) else "down",
                    "required": False,
                    "latency_ms": max(p["latency_ms"] for p in redis_parts),
                    "cache": redis_parts[0]["status"],
                    "queue": redis_parts[1]["status"],
                }
                for name, result in results.items():
                    metrics.DEPENDENCY.labels(name).set(result["status"] == "up")
                document = {"status": ("ready" if whole else "degraded") if good else "unready", "dependencies": results}
                self._readiness = (time.monotonic(), 200 if good else 503, document)
        _when, status, document = self._readiness
        if self.draining:
            status, document = 503, {**document, "status": "draining"}
        metrics.READY.set(status == 200)
        return status, {**document, "version": self.settings.version}

    @staticmethod
    async def _in_thread(function: t.Callable[[], None]) -> None:
        # not through the queries' limiter: a busy member is not an unready one
        await anyio.to_thread.run_sync(function, abandon_on_cancel=True)

    @staticmethod
    async def _ping(connection: redis.asyncio.Redis | None) -> str | None:
        if connection is None:
            return "off"
        await connection.ping()
        return None

    @staticmethod
    async def _graph_status(members: graph.Graph) -> str | None:
        good, count, _lag = await members.status()
        if good == 0:
            raise problems.Unavailable("neo4j", "no member can be read")
        return None if good == count else "degraded"

    @staticmethod
    async def _check(required: bool, work: t.Awaitable[str | None]) -> dict[str, t.Any]:
        started = time.monotonic()
        status, error = "up", None
        try:
            async with asyncio.timeout(2.0):
                status = await work or "up"
        except TimeoutError:
            status, error = "down", "no answer within 2 s"
        except (tables.Unavailable, Problem) as exc:
            status, error = "down", str(exc)
        except Exception as exc:
            status, error = "down", type(exc).__name__
        result = {"status": status, "required": required, "latency_ms": round((time.monotonic() - started) * 1000, 1)}
        return {**result, "error": error} if error else result

    async def close(self) -> None:
        await self.announcer.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        if self.graph is not None:
            await self.graph.close()
        if self.mongo is not None:
            await self.mongo.close()
        for connection in (self.cache_redis, self.queue_redis):
            if connection is not None:
                with contextlib.suppress(RedisError, OSError, RuntimeError):
                    await connection.aclose()


def state_of(request: Request) -> State:
    return t.cast(State, request.app.state.platform)


def identity_of(request: Request) -> Identity | None:
    identity = state_of(request).authority.from_header(request.headers.get("authorization"))
    request.state.user = identity.name if identity else None
    return identity


Shared = t.Annotated[State, Depends(state_of)]
Caller = t.Annotated[Identity | None, Depends(identity_of)]


def reader_of(request: Request) -> None:
    """For what is not a table: a token, unless everything is public."""
    if identity_of(request) is None and not state_of(request).settings.is_public("*"):
        raise unauthorized("This needs a token: POST /api/v1/auth/token.")


def writer_of(request: Request) -> Identity:
    return require_role(identity_of(request), "admin")


def conditions_of(
    if_match: t.Annotated[str | None, Header(max_length=1000)] = None, if_none_match: t.Annotated[str | None, Header(max_length=1000)] = None
) -> Conditions:
    return Conditions(if_match, if_none_match)


def insights_of(request: Request) -> Insights:
    return t.cast(Insights, state_of(request).insights)


Reader = Depends(reader_of)
Writer = t.Annotated[Identity, Depends(writer_of)]
Documents = t.Annotated[Insights, Depends(insights_of)]
Given = t.Annotated[Conditions, Depends(conditions_of)]
Key = t.Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
InsightId = t.Annotated[str, Path(pattern=insights.ID)]
LinkKind = t.Annotated[str, Path(pattern=insights.KIND)]


class RunRequest(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    tables: list[t.Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]] | None = pydantic.Field(default=None, min_length=1, max_length=100)


async def credentials(request: Request) -> tuple[str, str]:
    """User name and password from a JSON or a form body."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LOGIN_BODY_LIMIT:
            raise Problem(413, "body-too-large", f"The body may have {LOGIN_BODY_LIMIT} bytes.")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    username: t.Any
    password: t.Any
    try:
        if kind == "application/json":
            document = json.loads(body)
            username, password = (document.get("username"), document.get("password")) if isinstance(document, dict) else (None, None)
        elif kind == "application/x-www-form-urlencoded":
            form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
            username, password = form.get("username"), form.get("password")
        else:
            raise Problem(415, "unsupported-media-type", "Accepted: application/json and application/x-www-form-urlencoded.")
    except ValueError:
        raise Problem(400, "malformed-body", "The body cannot be read.") from None
    if not isinstance(username, str) or not isinstance(password, str) or not username or not password:
        raise Problem(422, "invalid-request", "username and password are needed, both as text.")
    return username, password


def create_app(settings: Settings) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> t.AsyncIterator[None]:
        app.state.platform.start()
        yield
        await app.state.platform.close()

    app = FastAPI(title="Data platform API", version=settings.version, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    state = State(settings)
    app.state.platform = state
    problems.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "OPTIONS", *(("PUT", "PATCH", "DELETE") if settings.mongodb else ())],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-Request-ID", *(("If-Match", "Idempotency-Key") if settings.mongodb else ())],
            expose_headers=["ETag", "X-Request-ID", "X-Platform-Version", "Retry-After", *(("Location", "X-Graph-Change") if settings.mongodb else ())],
            max_age=600,
        )
    app.add_middleware(Observe, version=settings.version, draining=lambda: state.draining)
    _operations(app)
    _api(app)
    if state.insights is not None:
        _insights(app)
    if state.graph is not None:
        _graph(app)
    return app


def _operations(app: FastAPI) -> None:
    @app.get("/health")
    async def health(state: Shared) -> dict[str, str]:
        return {"status": "ok", "version": state.settings.version}

    @app.get("/ready")
    async def ready(state: Shared) -> JSONResponse:
        status, document = await state.readiness()
        return JSONResponse(document, status, {"Cache-Control": "no-store"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics_page() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _api(app: FastAPI) -> None:
    @app.post("/api/v1/auth/token")
    async def token(request: Request, state: Shared) -> JSONResponse:
        username, password = await credentials(request)
        await state.limit.check(request.client.host if request.client else "unknown")
        identity = await anyio.to_thread.run_sync(state.authority.authenticate, username, password)
        metrics.LOGINS.labels("good" if identity else "refused").inc()
        if identity is None:
            raise unauthorized("User name or password is wrong.")
        request.state.user = identity.name
        document = {
            "access_token": state.authority.issue(identity),
            "token_type": "bearer",
            "expires_in": state.settings.token_ttl,
            "roles": list(identity.roles),
        }
        return JSONResponse(document, headers={"Cache-Control": "no-store"})

    @app.get("/api/v1/tables")
    async def list_tables(state: Shared, caller: Caller) -> JSONResponse:
        manifests = await state.call(state.catalog.manifests)
        visible = [m.describe() for m in manifests if caller is not None or state.settings.is_public(m.table)]
        return JSONResponse({"tables": visible}, headers={"Cache-Control": "no-cache", "Vary": "Authorization"})

    @app.get("/api/v1/tables/{name}")
    async def table(
        request: Request,
        state: Shared,
        caller: Caller,
        name: str,
        limit: t.Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: t.Annotated[int, Query(ge=0, le=tables.MAX_OFFSET)] = 0,
        order_by: t.Annotated[str | None, Query(max_length=1000, description="column or -column; several separated by commas")] = None,
        columns: t.Annotated[str | None, Query(max_length=10000, description="columns separated by commas")] = None,
        filters: t.Annotated[list[str] | None, Query(alias="filter", description="column:operator:value; eq ne lt le gt ge in like")] = None,
    ) -> Response:
        public = state.settings.is_public(name)
        if caller is None and not public:
            # the same answer whether the table exists or not
            raise unauthorized("This table needs a token: POST /api/v1/auth/token.")
        manifest = state.catalog.remembered(name)
        if manifest is None and tables.TABLE.fullmatch(name):
            manifest = await state.call(state.catalog.manifest, name)
        if manifest is None:
            raise Problem(404, "unknown-table", f"There is no table {name!r}.")
        query = tables.Query.parse(manifest, columns, filters or [], order_by, limit, offset)
        key = query.key(manifest)
        headers = {
            "ETag": f'"{key[:40]}"',
            # a client asks each time and gets 304 until the table changes
            "Cache-Control": f"{'public' if public else 'private'}, no-cache",
            "Vary": "Authorization",
        }
        wanted = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if headers["ETag"] in wanted or wanted == ["*"]:
            return Response(status_code=304, headers=headers)
        body = await state.cache.get(key)
        headers["X-Cache"] = "hit" if body is not None else "miss"
        if body is None:
            body = await state.call(state.catalog.rows, manifest, query)
            await state.cache.put(key, body)
        return Response(body, headers=headers, media_type="application/json")

    @app.get("/api/v1/runs")
    async def list_runs(
        state: Shared, caller: Caller, limit: t.Annotated[int, Query(ge=1, le=200)] = 20, offset: t.Annotated[int, Query(ge=0, le=10000)] = 0
    ) -> JSONResponse:
        if caller is None and not state.settings.is_public("*"):
            raise unauthorized("This needs a token: POST /api/v1/auth/token.")
        if state.queue_redis is None:
            raise Problem(503, "queue-unavailable", "No job queue is configured.")
        try:
            found, total = await runs.latest(state.queue_redis, limit, offset)
        except (RedisError, OSError) as exc:
            raise Problem(503, "queue-unavailable", "The job queue does not answer.", headers={"Retry-After": "2"}) from exc
        return JSONResponse({"runs": found, "total": total, "limit": limit, "offset": offset}, headers={"Cache-Control": "no-store"})

    @app.post("/api/v1/runs", status_code=202)
    async def start_run(state: Shared, caller: Caller, wanted: RunRequest | None = None) -> JSONResponse:
        caller = require_role(caller, "admin")
        if state.queue_blocking is None:
            raise Problem(503, "queue-unavailable", "No job queue is configured.")
        try:
            run_id = await anyio.to_thread.run_sync(runs.enqueue, state.queue_blocking, state.settings, wanted.tables if wanted else None, caller.name)
        except (RedisError, OSError) as exc:
            raise Problem(503, "queue-unavailable", "The job queue does not answer.", headers={"Retry-After": "2"}) from exc
        return JSONResponse({"run_id": run_id, "status": "queued"}, 202, {"Cache-Control": "no-store"})

    @app.websocket("/ws/runs")
    async def websocket_runs(websocket: WebSocket) -> None:
        """News of pipeline runs. The token comes as subprotocol `bearer, <token>` or as query parameter `token`."""
        state: State = websocket.app.state.platform
        offered = websocket.scope.get("subprotocols") or []
        subprotocol = "bearer" if len(offered) == 2 and offered[0] == "bearer" else None
        token = offered[1] if subprotocol else websocket.query_params.get("token")
        origin = websocket.headers.get("origin")
        if origin and not _same_origin(websocket, origin) and origin not in state.settings.cors_origins:
            await websocket.close(POLICY_VIOLATION)
            return
        try:
            if token:
                state.authority.identify(token)
            elif not state.settings.is_public("*"):
                raise unauthorized("token needed")
        except Problem:
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept(subprotocol=subprotocol)
        if not state.settings.redis_configured:
            await websocket.close(TRY_AGAIN_LATER, "no job queue is configured")
            return
        await state.announcer.serve(websocket)


def _document(document: Document, status: int = 200) -> JSONResponse:
    headers = {"ETag": insights.etag(document), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if status == 201:
        headers["Location"] = f"/api/v1/insights/{document['_id']}"
    return JSONResponse(insights.public(document), status, headers)


def _insights(app: FastAPI) -> None:
    @app.get("/api/v1/insights", dependencies=[Reader])
    async def search(
        documents: Documents,
        text: t.Annotated[str | None, Query(max_length=200, description="words, all of which must be there")] = None,
        tag: t.Annotated[str | None, Query(max_length=50)] = None,
        table: t.Annotated[str | None, Query(max_length=63)] = None,
        limit: t.Annotated[int, Query(ge=1, le=200)] = 50,
        after: t.Annotated[str | None, Query(max_length=300, description="`next` of the page before")] = None,
    ) -> JSONResponse:
        found, cursor = await documents.search(insights.query(text, tag, table, after), limit)
        return JSONResponse({"insights": [insights.public(one) for one in found], "next": cursor}, headers={"Cache-Control": "no-store"})

    @app.post("/api/v1/insights", status_code=201)
    async def create(documents: Documents, caller: Writer, content: Content, key: Key = None) -> JSONResponse:
        identifier = insights.key_id(caller.name, "insight", key) if key else uuid.uuid4().hex
        return _document(await documents.post(identifier, content.model_dump()), 201)

    @app.get("/api/v1/insights/{identifier}", dependencies=[Reader])
    async def read(request: Request, documents: Documents, identifier: InsightId) -> Response:
        document = insights.existing(await documents.get(identifier), identifier)
        answer = _document(document)
        wanted = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if answer.headers["etag"] in wanted or wanted == ["*"]:
            return Response(status_code=304, headers={name: answer.headers[name] for name in ("etag", "cache-control", "vary")})
        return answer

    @app.put("/api/v1/insights/{identifier}")
    async def replace(documents: Documents, _caller: Writer, identifier: InsightId, content: Content, given: Given) -> JSONResponse:
        document, made = await documents.put(identifier, content.model_dump(), given)
        return _document(document, 201 if made else 200)

    @app.patch("/api/v1/insights/{identifier}")
    async def change(documents: Documents, _caller: Writer, identifier: InsightId, changes: insights.Changes, given: Given) -> JSONResponse:
        return _document(await documents.patch(identifier, changes.model_dump(exclude_unset=True), given))

    @app.delete("/api/v1/insights/{identifier}", status_code=204)
    async def remove(documents: Documents, _caller: Writer, identifier: InsightId, given: Given) -> Response:
        await documents.delete(identifier, given)
        return Response(status_code=204)


def _graph(app: FastAPI) -> None:
    async def link(documents: Insights, caller: Identity, source: str, kind: str, target: str, key: str | None, remove: bool) -> int | None:
        if source == target:
            raise Problem(422, "invalid-link", "An insight cannot be linked to itself.")
        what = "\0".join(("unlink" if remove else "link", source, kind, target))
        return await documents.link(source, target, kind, insights.key_id(caller.name, what, key) if key else uuid.uuid4().hex, remove=remove)

    @app.put("/api/v1/insights/{identifier}/links/{kind}/{target}")
    async def put_link(documents: Documents, caller: Writer, identifier: InsightId, kind: LinkKind, target: InsightId, key: Key = None) -> JSONResponse:
        number = await link(documents, caller, identifier, kind, target, key, False)
        return JSONResponse({"source": identifier, "target": target, "kind": kind}, headers={"X-Graph-Change": str(number), "Cache-Control": "no-store"})

    @app.delete("/api/v1/insights/{identifier}/links/{kind}/{target}", status_code=204)
    async def remove_link(documents: Documents, caller: Writer, identifier: InsightId, kind: LinkKind, target: InsightId, key: Key = None) -> Response:
        number = await link(documents, caller, identifier, kind, target, key, True)
        return Response(status_code=204, headers={} if number is None else {"X-Graph-Change": str(number)})

    @app.get("/api/v1/insights/{identifier}/neighbours", dependencies=[Reader])
    async def neighbours(
        state: Shared,
        documents: Documents,
        identifier: InsightId,
        depth: t.Annotated[int, Query(ge=1, le=5)] = 1,
        limit: t.Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> JSONResponse:
        assert state.graph is not None
        found, reading = await state.graph.read(lambda tx: graph.neighbours(tx, identifier, depth, limit))
        if found is None:
            # made a moment ago, perhaps: then it has no links that anybody could know of
            known = None
            with contextlib.suppress(problems.Unavailable):
                known = await documents.get(identifier)
            insights.existing(known, identifier)
            found = {"nodes": [], "links": [], "truncated": False}
        document = {"id": identifier, "depth": depth, "limit": limit, **found, "position": reading.position, "lag": reading.lag}
        return JSONResponse(document, headers={"Cache-Control": "no-store"})


def _same_origin(websocket: WebSocket, origin: str) -> bool:
    """Browsers send Origin always; behind the edge it names the public host, as Host does."""
    return urllib.parse.urlsplit(origin).netloc.lower() == websocket.headers.get("host", "").lower()


def load_settings() -> Settings:
    """From the environment; what is wrong is printed, every finding on a line, and ends the process with status 2."""
    try:
        return Settings.load()
    except SettingsError as exc:
        for finding in exc.findings:
            print(f"api: {finding}", file=sys.stderr)
        raise SystemExit(2) from None


def _build() -> FastAPI:
    settings = load_settings()
    logs.configure(settings.log_level)
    return create_app(settings)


def __getattr__(name: str) -> t.Any:
    """`app` is made when it is first asked for, so that importing this module needs no environment."""
    if name == "app":
        application = _build()
        globals()["app"] = application
        return application
    raise AttributeError(name)
