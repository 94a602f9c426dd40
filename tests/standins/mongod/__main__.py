# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`python -m mongod --config FILE`: see README.md."""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys

from .admin import set_startup_parameters
from .common import log
from .config import ConfigError, parse, version_as
from .node import Node
from .server import main


def run(argv: list[str]) -> int:
    """The exit code. https://www.mongodb.com/docs/manual/reference/exit-codes/"""
    if "--version" in argv:
        print(f"db version v{version_as()}")
        return 0
    try:
        config = parse(argv)
        if config.get("processManagement.fork"):
            raise ConfigError("processManagement.fork is not supported by this stand-in")
    except ConfigError as error:
        print(f"{error}\ntry 'mongod --help' for more information", file=sys.stderr)
        return 2
    if config.get("systemLog.destination") == "file":
        log.stream = open(config.get("systemLog.path"), "a")  # noqa: SIM115 (open as long as the process)
    if pid_file := config.get("processManagement.pidFilePath"):
        pathlib.Path(pid_file).write_text(f"{os.getpid()}\n")
    log("CONTROL", "MongoDB starting", pid=os.getpid(), port=config.port, dbPath=str(config.dbpath), version=version_as())

    async def serve() -> None:
        node = Node(config)
        set_startup_parameters(node, config.parameters)
        await main(node, os.environ.get("MONGOD_STANDIN_CONTROL"), float(os.environ.get("MONGOD_STANDIN_SLOW_START", 0)))

    try:
        asyncio.run(serve())
    except (ConfigError, ValueError) as error:
        log("CONTROL", "Error during global initialization", "E", error=str(error))
        return 1
    except OSError as error:
        log("CONTROL", "Failed to set up listener", "E", error=str(error))
        return 48
    except RuntimeError as error:
        log("CONTROL", "Fatal error", "F", error=str(error))
        return 100 if "DBPathInUse" in str(error) else 62 if "UPGRADE" in str(error) else 14
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
