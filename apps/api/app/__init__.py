# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP API of the data platform: gold tables as paged, filtered, cached JSON, and news of pipeline runs."""

__version__ = "0.1.0"
