#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: prometheus_gate
short_description: Gate of metrics in Prometheus, by member and against the other members
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks instant queries of Prometheus and compares each value with what is good and what is bad. A value that is neither, and whatever cannot be relied on,
    is V(unknown), so that a person decides and nothing is taken back.
  - Phase V(after) is about O(target), phase V(before) about all members but O(target), the others about all members. Metrics of scope V(service) always count.
  - TLS is always verified.
notes:
  - Reason codes, and what to do about each. Their subject is the member and the metric.
  - C(PROM_BAD) (fail) O(metrics[].fail_when) is met. Look at the member; the value and the limits are in the text.
  - C(PROM_INCONCLUSIVE) (unknown) neither good nor bad. Wait, or decide.
  - C(PROM_BAD_EVERYWHERE) (unknown) bad, and no worse than the other members. Look for a common cause before going on.
  - C(PROM_NO_BASELINE) (unknown) not good by itself, and there is nothing to compare it with.
  - C(PROM_FEW_SAMPLES) (unknown) too little traffic to tell. Send some, or rely on M(novacorrente.platform.http_gate).
  - C(PROM_NO_DATA) (unknown) no result for the member. Does it have another value of O(label)?
  - C(PROM_NO_NUMBER) (unknown) the result is NaN or infinite, usually a division by no requests.
  - C(PROM_NOT_SCRAPED) (unknown) Prometheus cannot scrape the member. Look at the target page of Prometheus.
  - C(PROM_STALE) (unknown) the last scrape is older than two intervals, or older than the change.
  - C(PROM_QUERY) (unknown) Prometheus is not there, refuses the query, has a part of the data, or has several results for a member.
  - C(PROM_TOO_EARLY) (wait) O(initial_delay) is not over.
  - C(PROM_NO_SUCH_MEMBER) (fail) O(target) is not in O(members).
extends_documentation_fragment:
  - novacorrente.platform.gate
options:
  url:
    description: Prometheus, such as C(https://ops1:9090). C(http) is accepted on the loopback only.
    type: str
    required: true
  url_address:
    description: Where to ask O(url), as C(host:port), whatever its name resolves to.
    type: str
    default: ''
  ca_file:
    description: File of certificates in PEM form that the server is verified against. By default the system's.
    type: path
  username:
    description: Name for basic authentication. Empty for none.
    type: str
    default: ''
  password:
    description: Password for basic authentication.
    type: str
  timeout:
    description: Seconds that a connection or an answer may take.
    type: float
    default: 5.0
  members:
    description: The members of the service.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member in the inventory.
        type: str
        required: true
      label:
        description: Its value of O(label) in Prometheus. By default its name.
        type: str
        default: ''
  label:
    description: The label by which results name members.
    type: str
    default: instance
  up:
    description: Selector of the members' C(up) series, used for the state and the age of scrapes. Narrow it by job where members have several.
    type: str
    default: up
  scrape_interval:
    description: Seconds between two scrapes.
    type: float
    default: 15.0
  since:
    description: Seconds since the epoch at which the target got requests again. By default O(not_before). Rates do not look back beyond it.
    type: float
  initial_delay:
    description: Seconds after O(since) before the first query. By default two scrape intervals.
    type: float
  max_window:
    description: The longest that rates look back, in seconds.
    type: float
    default: 300.0
  metrics:
    description: What to ask, and what the values must be.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the metric, for messages.
        type: str
        required: true
      query:
        description: PromQL with an instant vector or a scalar as result. C($window) stands for the seconds that it may look back.
        type: str
        required: true
      scope:
        description: V(member) for a result with an element for each member, V(service) for one in all, without the label.
        type: str
        choices: [member, service]
        default: member
      success_when:
        description: Operator and number that a good value meets, such as V(<= 0.01).
        type: str
        required: true
      fail_when:
        description: Operator and number that a bad value meets, such as V(> 0.05). By default none is.
        type: str
        default: ''
      samples:
        description: PromQL of the number of events in the window, of the same scope. Empty where the value does not depend on traffic.
        type: str
        default: ''
      min_samples:
        description: Events that the value must rest on.
        type: float
        default: 50.0
      factor:
        description:
          - A value is good as well where it is at most this times the median of the other members, plus O(metrics[].offset). Where there is one member only,
            the hour before O(since) is what it is compared with.
        type: float
      offset:
        description: Added to the product with O(metrics[].factor).
        type: float
        default: 0.0
"""

EXAMPLES = r"""
- name: Does the new release behave like the old one next to it?
  novacorrente.platform.prometheus_gate:
    phase: after
    target: app1
    url: https://ops1:9090
    ca_file: /etc/platform/ca.crt
    since: "{{ undrained_at }}"
    label: member
    up: up{job="api"}
    members: [{name: app1}, {name: app2}, {name: app3}]
    metrics:
      - name: error_ratio
        query: >-
          sum by (member) (rate(http_requests_total{job="api",code=~"5.."}[$window])) / sum by (member) (rate(http_requests_total{job="api"}[$window]))
        samples: sum by (member) (increase(http_requests_total{job="api"}[$window]))
        success_when: <= 0.01
        fail_when: "> 0.05"
        factor: 1.5
        offset: 0.005
      - name: p95_seconds
        query: histogram_quantile(0.95, sum by (member, le) (rate(http_request_duration_seconds_bucket{job="api"}[$window])))
        samples: sum by (member) (increase(http_requests_total{job="api"}[$window]))
        success_when: <= 0.5
        factor: 1.3
      - name: critical_alerts
        scope: service
        query: count(ALERTS{alertstate="firing",severity="critical"}) or vector(0)
        success_when: == 0

# From the command line, with parameters in a file:
#   ansible localhost -m novacorrente.platform.prometheus_gate -a @gate.yml -e '{"wait": false}'
"""

RETURN = r"""
msg:
  description: The outcome for a person.
  returned: always
  type: str
verdict:
  description: V(pass), V(wait), V(fail) or V(unknown).
  returned: when the gate looked
  type: str
  sample: pass
reasons:
  description: What keeps the gate from passing, each with C(code), C(verdict), C(subject), C(text) and C(key).
  returned: when the gate looked
  type: list
  elements: dict
tolerated:
  description: Keys of findings that the policy overruled.
  returned: when the gate looked
  type: list
  elements: str
observed:
  description: The window, and the values by metric and member.
  returned: when the gate looked
  type: dict
margin:
  description: Always null, metrics have no number of members that may be lost.
  returned: when the gate looked
  type: int
progress:
  description: Always null.
  returned: when the gate looked
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: when the gate looked
  type: float
polls:
  description: How many times it looked.
  returned: when the gate looked
  type: int
"""

import functools
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import addresses, https, prometheus
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def metric_of(params: t.Mapping[str, t.Any]) -> prometheus.Metric:
    """Raises GateError or prometheus.ConditionError."""
    metric = prometheus.Metric(
        name=params["name"],
        query=params["query"],
        success_when=prometheus.condition_of(params["success_when"]),
        fail_when=prometheus.condition_of(params["fail_when"]) if params["fail_when"] else None,
        by_member=params["scope"] == "member",
        samples=params["samples"],
        min_samples=params["min_samples"],
        factor=params["factor"],
        offset=params["offset"],
    )
    if metric.problems():
        raise gate.GateError(" ".join(metric.problems()))
    return metric


def limits_of(params: t.Mapping[str, t.Any]) -> prometheus.Limits:
    """Raises GateError or prometheus.ConditionError."""
    since = params["since"] if params["since"] is not None else params["not_before"]
    delay = params["initial_delay"]
    return prometheus.Limits(
        metrics=tuple(metric_of(metric) for metric in params["metrics"]),
        scrape_interval=params["scrape_interval"],
        initial_delay=2 * params["scrape_interval"] if delay is None else delay,
        max_window=params["max_window"],
        since=since,
    )


def fetcher_of(params: t.Mapping[str, t.Any], limits: prometheus.Limits) -> prometheus.Fetcher:
    """Raises addresses.AddressError where parameters cannot be used."""
    place, path = https.place_of(params["url"], params["url_address"])
    return prometheus.Fetcher(
        place,
        path,
        https.tls_context(params["ca_file"]),
        params["timeout"],
        https.basic(params["username"], params["password"] or ""),
        {member["name"]: member["label"] or member["name"] for member in params["members"]},
        params["label"],
        params["up"],
        limits,
    )


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "url": {"type": "str", "required": True},
            "url_address": {"type": "str", "default": ""},
            "ca_file": {"type": "path"},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 5.0},
            "members": {**gate.MEMBERS, "options": {"name": gate.MEMBER["name"], "label": {"type": "str", "default": ""}}},
            "label": {"type": "str", "default": "instance"},
            "up": {"type": "str", "default": "up"},
            "scrape_interval": {"type": "float", "default": 15.0},
            "since": {"type": "float"},
            "initial_delay": {"type": "float"},
            "max_window": {"type": "float", "default": 300.0},
            "metrics": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "query": {"type": "str", "required": True},
                    "scope": {"type": "str", "choices": ["member", "service"], "default": "member"},
                    "success_when": {"type": "str", "required": True},
                    "fail_when": {"type": "str", "default": ""},
                    "samples": {"type": "str", "default": ""},
                    "min_samples": {"type": "float", "default": 50.0},
                    "factor": {"type": "float"},
                    "offset": {"type": "float", "default": 0.0},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        limits = limits_of(module.params)
        fetcher = fetcher_of(module.params, limits)
    except (gate.GateError, prometheus.ConditionError, addresses.AddressError) as exc:
        module.fail_json(msg=str(exc))
    gate.run(module, "prometheus", fetcher.fetch, functools.partial(prometheus.evaluate, limits=limits))


if __name__ == "__main__":
    main()
