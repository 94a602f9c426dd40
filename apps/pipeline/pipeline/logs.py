# SPDX-License-Identifier: GPL-3.0-or-later
"""One JSON object a line on stdout, with the run's id where there is one."""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import json
import logging
import sys
import typing as t

run_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("run_id", default=None)

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, t.Any] = {
            "ts": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if run_id.get():
            entry["run_id"] = run_id.get()
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # RQ logs the arguments and local variables of a failed job as record extras: keep its lines short.
    logging.getLogger("rq").addFilter(_strip_extras)
    for name in ("rq.worker", "rq.job", "rq.scheduler", "rq.queue", "rq.registry"):
        logging.getLogger(name).addFilter(_strip_extras)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _strip_extras(record: logging.LogRecord) -> bool:
    for name in ("func", "arguments", "kwargs"):
        record.__dict__.pop(name, None)
    return True


@contextlib.contextmanager
def bound_run(value: str) -> t.Iterator[None]:
    token = run_id.set(value)
    try:
        yield
    finally:
        run_id.reset(token)
