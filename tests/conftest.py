# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the collection importable under its full name, from a plain clone and with nothing installed."""

from __future__ import annotations

import pathlib
import sys

import hypothesis

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
COLLECTIONS = REPOSITORY / ".ansible" / "collections"


# Time is measured in `make bench`, not in a test.
SLOW = [hypothesis.HealthCheck.too_slow]
# The same examples in every run: whether a commit passes must not hang on luck. `make test-all` looks for new ones (--hypothesis-profile=search).
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, print_blob=True, suppress_health_check=SLOW)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=SLOW)
hypothesis.settings.load_profile("default")


def pytest_configure() -> None:
    # First the plain way: ansible_collections is a namespace package under this path.
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))
    # Then Ansible's own finder, which plugins that load other plugins by name need. If something has installed it before
    # (a pytest plugin, for example), it does not know this clone: it is replaced.
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    _AnsibleCollectionFinder._remove()
    init_plugin_loader([str(COLLECTIONS)])
