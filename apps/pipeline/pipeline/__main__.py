# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m pipeline COMMAND"""

from __future__ import annotations

import argparse
import json
import sys
import typing as t

STEP_COMMANDS = {
    "extract_and_load": "copy the sources to bronze",
    "transform_with_duckdb": "build silver from bronze",
    "load_to_gold": "build and publish gold from silver",
    "validate_pipeline": "compare the three layers with their manifests",
}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="pipeline", description="Batch pipeline of the data platform.")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (*STEP_COMMANDS.items(), ("run", "all four steps"), ("enqueue", "put a run on the queue and leave")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("tables", nargs="*", metavar="TABLE", help="default: all configured tables")
        if name == "enqueue":
            command.add_argument("--wait", type=int, metavar="SECONDS", default=0, help="wait so long for the run to end")
            command.add_argument("--run-id", help="default: made from the time")
    commands.add_parser("worker", help="consume the queue").add_argument("--burst", action="store_true", help="leave when the queue is empty")
    commands.add_parser("scheduler", help="enqueue a run at each scheduled time")
    commands.add_parser("check", help="check the source configuration and what is set in the environment; contact nobody")
    commands.add_parser("health", help="for the container's health check")
    return root


def main(argv: t.Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    if arguments.command == "health":  # imports nothing heavy: it runs every few seconds
        from . import health

        return health.main()
    from . import logs
    from .errors import ConfigError, PipelineError
    from .settings import Settings

    try:
        settings = Settings.load(
            store=arguments.command not in ("scheduler", "enqueue", "check"), redis=arguments.command in ("worker", "scheduler", "enqueue")
        )
        logs.configure(settings.log_level)
        return _dispatch(arguments, settings)
    except ConfigError as exc:
        for finding in exc.findings:
            print(f"pipeline: {finding}", file=sys.stderr)
        return 2
    except PipelineError as exc:
        print(f"pipeline: {exc}", file=sys.stderr)
        return 1


def _dispatch(arguments: argparse.Namespace, settings: t.Any) -> int:
    command = arguments.command
    if command == "worker":
        from . import worker

        return worker.work(settings, burst=arguments.burst)
    if command == "scheduler":
        from . import scheduler

        return scheduler.run(settings)
    from . import config

    if command == "check":
        names = [gold.name for table in config.load(settings.config).tables for gold in table.gold]
        print(f"configuration good: gold tables {', '.join(names)}")
        return 0
    from . import jobs, steps
    from .redis_client import connect

    tables: list[str] = arguments.tables
    if command == "enqueue":
        return _enqueue(arguments, settings)
    connection = connect(settings.redis) if settings.redis.configured else None
    context = jobs.context(settings, connection, steps.new_run_id(), "command")
    selected = tuple(STEP_COMMANDS) if command == "run" else (command,)
    try:
        report = steps.run(context, tables, selected)
    except Exception as exc:
        context.recorder.finish("failed", str(exc))
        raise
    print(json.dumps(report, default=str))
    return 0


def _enqueue(arguments: argparse.Namespace, settings: t.Any) -> int:
    import time

    from rq.exceptions import DuplicateJobError

    from . import events, jobs, steps
    from .redis_client import connect

    connection = connect(settings.redis)
    run_id = arguments.run_id or steps.new_run_id()
    try:
        jobs.enqueue(connection, settings, run_id=run_id, trigger="command", tables=arguments.tables or None)
    except DuplicateJobError:
        print(f"pipeline: run {run_id} is already enqueued", file=sys.stderr)
        return 1
    print(json.dumps({"run_id": run_id, "status": "queued"}), flush=True)
    deadline = time.monotonic() + arguments.wait
    while arguments.wait and time.monotonic() < deadline:
        found = connection.hget(events.RUN.format(run_id), "status") or b""
        status = found.decode() if isinstance(found, bytes) else found
        if status in ("succeeded", "failed"):
            print(json.dumps({"run_id": run_id, "status": status}), flush=True)
            return 0 if status == "succeeded" else 1
        time.sleep(0.5)
    if arguments.wait:
        print(f"pipeline: run {run_id} did not end within {arguments.wait} s", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
