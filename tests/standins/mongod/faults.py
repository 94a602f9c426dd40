# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Faults on request, through a port of its own: one JSON object a line, answered by the state in one line.

    {"set": {"lag": 5}}                          apply entries only when they are 5 s old
    {"set": {"freeze": true}}                    answer nobody (the control port still answers)
    {"set": {"partition": {"in": ["h:1"], "out": ["h:1"]}}}    no connection from / to these members
    {"set": {"refuse_step_down": true}}          replSetStepDown fails, SIGTERM does not hand over
    {"set": {"fail_initial_sync": true}}         every attempt of an initial sync fails
    {"do": "initial_sync"}                       throw the data away and copy it again
    {"do": "rollback", "count": 3}               a secondary invents entries that nobody else has
    {"heal": true}                               back to normal
    {}                                           state only

slow_start (seconds before the port answers) is given by the environment: MONGOD_STANDIN_SLOW_START.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable

from .common import Doc


@dataclasses.dataclass
class Faults:
    """What is broken now."""

    lag: float = 0
    freeze: bool = False
    partition: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    refuse_step_down: bool = False
    fail_initial_sync: bool = False

    def __post_init__(self) -> None:
        self.changed = asyncio.Event()

    def set(self, values: Doc) -> None:
        """Raises ValueError for what is not known."""
        for name, value in values.items():
            if name not in {field.name for field in dataclasses.fields(self)}:
                raise ValueError(f"unknown fault {name}")
            setattr(self, name, value)
        # Whoever waits looks again.
        self.changed.set()
        self.changed = asyncio.Event()

    def heal(self) -> None:
        self.set({field.name: getattr(Faults(), field.name) for field in dataclasses.fields(self)})

    def cut(self, direction: str, host: str | None) -> bool:
        return host is not None and host in self.partition.get(direction, [])

    async def reach(self, host: str) -> None:
        """Returns only when the member can be reached: packets into a partition are not refused, they are lost."""
        while self.freeze or self.cut("out", host):
            await self.changed.wait()

    async def hold(self, peer: str | None) -> bool:
        """Wait while requests (of a member, or of anybody) are held up; whether that was so."""
        held = False
        while self.freeze or self.cut("in", peer):
            held = True
            await self.changed.wait()
        return held


async def serve(address: str, faults: Faults, state: Callable[[], Doc], act: Callable[[str, Doc], Awaitable[None]]) -> asyncio.Server:
    """The control port, at host:port."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    request = json.loads(line)
                    if request.get("heal"):
                        faults.heal()
                    faults.set(request.get("set", {}))
                    if "do" in request:
                        await act(request["do"], request)
                    answer = state()
                except (ValueError, TypeError, AttributeError) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer, default=str).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    host, _, port = address.rpartition(":")
    return await asyncio.start_server(client, host, int(port))
