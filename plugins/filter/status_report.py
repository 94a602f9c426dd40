# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: Put members and gates of the platform together into one report
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Joins what M(novacorrente.platform.status) tells of each host with what the gates tell of each cluster, and makes a table for a person of it.
options:
  _input:
    description: The result of M(novacorrente.platform.status) by host. A host that did not answer has none.
    type: dict
    required: true
  wanted:
    description: The hosts that should run each tier.
    type: dict
    required: true
  gates:
    description: Result of the gate by tier. Where a tier has several clusters it is that of a loop over their names, such as V(cache) and V(queue) of Redis.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the report
  ansible.builtin.debug:
    msg: "{{ (members | novacorrente.platform.status_report(wanted, gates)).text }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether every member and every cluster is well.
      type: bool
    tiers:
      description: By tier, by cluster, the verdict, margin and reasons of its gate.
      type: dict
    members:
      description:
        - One entry a tier and host, with version, role, lag, release, certificate_days, last_backup and faults.
        - Version, role and lag are what the gate saw (C(observed.members)), the lag with its unit. A version that no gate tells is that of the
          images' labels, or the first 12 characters of an image's digest.
      type: list
      elements: dict
    text:
      description: The same as a table.
      type: str
"""

import typing as t

Values = t.Mapping[str, t.Any]

COLUMNS = ("tier", "member", "state", "version", "role", "lag", "release", "cert days", "last backup")
# What a person should see at a glance is in words, what is not known is a dash.
UNKNOWN = "-"


def status_report(hosts: t.Mapping[str, Values | None], wanted: t.Mapping[str, t.Sequence[str]], gates: t.Mapping[str, Values]) -> dict[str, t.Any]:
    clusters = {tier: clusters_of(tier, gates.get(tier) or {"msg": "no member of it could be asked"}) for tier in wanted}
    members = [member(tier, host, hosts.get(host), clusters[tier]) for tier, names in wanted.items() for host in names]
    tiers = {tier: {name: cluster(result) for name, result in found.items()} for tier, found in clusters.items()}
    ok = all(not item["faults"] for item in members) and all(gate["verdict"] == "pass" for found in tiers.values() for gate in found.values())
    return {"ok": ok, "tiers": tiers, "members": members, "text": text_of(members, tiers, ok)}


def clusters_of(tier: str, gate: Values) -> dict[str, Values]:
    """Results by cluster. A tier that has several asks its gate in a loop over their names."""
    if "results" in gate:
        return {str(result["item"]): result for result in gate["results"]}
    return {tier: gate}


def member(tier: str, host: str, status: Values | None, gates: Values) -> dict[str, t.Any]:
    """A member as its host and its cluster's gates see it. What several gates know of it is joined, such as the roles in two clusters."""
    seen = (status or {}).get(tier)
    known = [(name, result.get("observed", {}).get("members", {}).get(host) or {}) for name, result in gates.items()]

    def joined(key: str) -> str:
        values = {name: str(facts[key]) for name, facts in known if facts.get(key) not in (None, "")}
        if len(values) in (0, len(known)) and len(set(values.values())) <= 1:
            return next(iter(values.values()), "")
        return ", ".join(f"{name} {value}" for name, value in values.items())

    services = seen["services"] if seen else []
    versions = {service["version"] or digest(service["image"]) for service in services} - {""}
    return {
        "tier": tier,
        "host": host,
        "version": joined("version") or ", ".join(sorted(versions)),
        "role": joined("role"),
        "lag": joined("lag"),
        "release": seen["release"] if seen else "",
        "certificate_days": seen["certificate_days"] if seen else None,
        "last_backup": (seen or {}).get("last_backup") or "",
        "faults": ["the host does not answer"] if status is None else list(seen["faults"]) if seen else ["nothing of it runs"],
    }


def digest(image: str) -> str:
    """Enough of the digest in ``registry/name@sha256:...`` to tell images apart, where no label says which version is in them."""
    return image.partition("@")[2].partition(":")[2][:12]


def cluster(result: Values) -> dict[str, t.Any]:
    """What a gate says of a cluster. A gate that could not be asked is unknown."""
    reasons = [f"{reason['code']}{' ' + reason['subject'] if reason.get('subject') else ''}: {reason['text']}" for reason in result.get("reasons", [])]
    if "verdict" not in result:
        reasons = [str(result.get("msg", "the gate did not answer"))]
    return {"verdict": result.get("verdict", "unknown"), "margin": result.get("margin"), "reasons": reasons}


def text_of(members: t.Sequence[Values], tiers: t.Mapping[str, t.Mapping[str, Values]], ok: bool) -> str:
    rows = [COLUMNS, *(row_of(item) for item in members)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("")
    for tier, clusters in tiers.items():
        for name, gate in clusters.items():
            title = tier if name == tier else f"{tier} {name}"
            lines.append(f"{title}: {gate['verdict']}{margin_text(gate['margin'])}")
            lines.extend(f"    {reason}" for reason in gate["reasons"])
    faults = [f"    {item['tier']} {item['host']}: {fault}" for item in members for fault in item["faults"]]
    if faults:
        lines += ["", "Members that are not well:", *faults]
    lines += ["", "All is well." if ok else "Not all is well."]
    return "\n".join(lines)


def row_of(item: Values) -> tuple[str, ...]:
    days = item["certificate_days"]
    cells = (item["version"], item["role"], item["lag"], item["release"], "" if days is None else str(days), item["last_backup"])
    return (item["tier"], item["host"], "not well" if item["faults"] else "well", *(cell or UNKNOWN for cell in cells))


def margin_text(margin: t.Any) -> str:
    if margin is None:
        return ""
    return f", can lose {margin} more" if margin > 0 else ", can lose none" if margin == 0 else f", {-margin} too few"


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"status_report": status_report}
