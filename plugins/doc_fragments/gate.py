# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all gate modules have in common, see module_utils/_gates/module.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
notes:
  - Verdicts are V(pass), V(wait) (may become well by itself), V(fail) (will not become well by itself) and V(unknown) (cannot be seen).
    What is unknown is never a pass, under no policy.
attributes:
  check_mode:
    support: full
    description: A gate only looks, in check mode too.
  diff_mode:
    support: none
    description: There is nothing to show.
  idempotent:
    support: full
    description: A gate changes nothing.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
options:
  phase:
    description:
      - V(preflight) asks whether a rollout may begin, V(final) whether it ended well. Both are about the whole cluster.
      - V(before) asks whether O(target) may go now, V(after) whether it is back.
    type: str
    choices: [preflight, before, after, final]
    default: preflight
  target:
    description: The member that O(phase) is about, by the name that it has in the list of members. Required in phases V(before) and V(after).
    type: str
    default: ''
  expect_version:
    description: The version that must run in phases V(after) and V(final). Empty asks for none.
    type: str
    default: ''
  not_before:
    description: Seconds since the epoch. In phase V(after) the target must have been started later.
    type: float
  policy:
    description:
      - V(strict) lets nothing pass that has a finding.
      - V(no_worse) tolerates what O(baseline) names, so that a cluster which was degraded before may be worked on.
      - V(forced) tolerates findings that a person may overrule. It needs O(forced_because).
    type: str
    choices: [strict, no_worse, forced]
    default: strict
  baseline:
    description: Keys of findings that were there before, as RV(reasons) of an earlier result has them.
    type: list
    elements: str
    default: []
  forced_because:
    description: Why policy V(forced) is used. It is written into the journal of the rollout.
    type: str
    default: ''
  wait:
    description: Whether to wait until the verdict stands. Otherwise the gate looks once.
    type: bool
    default: true
  required:
    description: Whether a verdict other than V(pass) fails the task.
    type: bool
    default: true
  successes:
    description: How many times in a row the verdict must be V(pass).
    type: int
    default: 3
  failures:
    description: How many times in a row the verdict must be V(fail) before the gate gives up.
    type: int
    default: 2
  interval:
    description: Seconds between two looks at a healthy system. One that is not healthy yet is looked at five times a second.
    type: float
    default: 2.0
  min_healthy_time:
    description: Seconds for which the verdict must be V(pass) without a break. By default 30 in phase V(after), else 0.
    type: float
  healthy_deadline:
    description: Seconds within which the system must have become healthy. What is V(unknown) then stays so, what waits has failed.
    type: float
    default: 300.0
  progress_deadline:
    description: Seconds from the last progress of a recovery on, in place of O(healthy_deadline) once there was any.
    type: float
    default: 600.0
  hard_deadline:
    description: Seconds after which the gate gives up whatever happens.
    type: float
    default: 3600.0
seealso:
  - name: Nomad's update block
    description: Where the meaning of the deadlines comes from.
    link: https://developer.hashicorp.com/nomad/docs/job-specification/update
"""
