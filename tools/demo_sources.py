#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the demo's source tables out of the `vega_datasets` package: real data, in the form in which a user has his own."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
import sys

NAMES = ("seattle-weather.csv", "iowa-electricity.csv", "us-employment.csv")


def main(target: str) -> None:
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        sys.exit("vega_datasets is not installed; it is in requirements.txt")
    data = pathlib.Path(spec.origin).parent / "_data"
    pathlib.Path(target).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copyfile(data / name, pathlib.Path(target) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
