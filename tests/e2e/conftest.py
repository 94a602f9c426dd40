# SPDX-License-Identifier: GPL-3.0-or-later
"""End-to-end tests run on the converged lab (`make demo`); each file is named after what it shows."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
