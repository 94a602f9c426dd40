# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the collection importable under its full name, from a plain clone and with nothing installed."""

from __future__ import annotations

import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
COLLECTIONS = REPOSITORY / ".ansible" / "collections"


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
