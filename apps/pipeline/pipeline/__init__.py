# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch pipeline of the data platform: files to bronze, silver and gold, with checks before gold changes."""

__version__ = "0.1.0"
