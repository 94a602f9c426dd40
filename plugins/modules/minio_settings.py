#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: minio_settings
short_description: Buckets, policies and users of a MinIO cluster
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Compares the buckets (versioning, lifecycle), the policies and the users of a MinIO cluster with what is wanted, and changes the
    difference only. All of it is one module execution.
  - Buckets, policies and users that are not named are left alone, and no bucket is ever removed.
  - A user's secret key cannot be read back. It is tested by a request that is signed with it, and set where the server refuses that.
  - Runs where the V(minio) library is, usually on the controller by C(delegate_to).
attributes:
  check_mode:
    support: full
    description: The cluster is read and the changes are reported, none is made.
  diff_mode:
    support: full
    description: Shows each change. Secret keys are never shown.
  idempotent:
    support: full
    description: Nothing is written where nothing differs.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
requirements:
  - minio >= 7.2 (Python)
options:
  endpoints:
    description:
      - Addresses of the cluster's nodes as C(host:port). The first one whose cluster health is good is used.
    type: list
    elements: str
    required: true
  ca_certificate:
    description:
      - PEM text of the certificate authorities that the nodes' certificates are verified against.
      - Where it is left out, the system's authorities are used.
    type: str
  access_key:
    description: Access key of an administrator.
    type: str
    required: true
  secret_key:
    description: Secret key of the administrator.
    type: str
    required: true
  region:
    description: Region of the site.
    type: str
    default: us-east-1
  wait_timeout:
    description: Seconds to wait for a node to report a healthy cluster, such as after a first start.
    type: int
    default: 90
  buckets:
    description: Buckets that must exist.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the bucket.
        type: str
        required: true
      versioning:
        description: Whether each version of an object is kept.
        type: bool
        default: true
      noncurrent_days:
        description: Days after which a version that has been replaced or deleted expires. V(0) keeps it for ever.
        type: int
        default: 0
      expire_days:
        description: Days after which objects expire. V(0) keeps them for ever.
        type: int
        default: 0
  policies:
    description: Policies that must exist or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the policy.
        type: str
        required: true
      statements:
        description: Statements as in an IAM policy document, each a dictionary with C(Effect), C(Action) and C(Resource).
        type: list
        elements: dict
        default: []
      state:
        description: V(absent) removes the policy.
        type: str
        choices: [present, absent]
        default: present
  users:
    description: Users that must exist or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      access_key:
        description: Access key, the name of the user.
        type: str
        required: true
      secret_key:
        description: Secret key of 8 to 40 characters. Required where the user is to be present.
        type: str
      policies:
        description: Names of the policies that the user has, no others.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes the user.
        type: str
        choices: [present, absent]
        default: present
seealso:
  - name: MinIO Python SDK
    description: The library that this module stands on.
    link: https://github.com/minio/minio-py
"""

EXAMPLES = r"""
- name: Settle buckets and users of the cluster
  novacorrente.platform.minio_settings:
    endpoints: [192.0.2.31:9000, 192.0.2.32:9000]
    ca_certificate: "{{ lookup('ansible.builtin.file', 'pki/ca.crt') }}"
    access_key: root
    secret_key: "{{ minio_root_password }}"
    buckets:
      - name: gold
        noncurrent_days: 90
    policies:
      - name: reader
        statements:
          - Effect: Allow
            Action: [s3:GetObject]
            Resource: [arn:aws:s3:::gold/*]
    users:
      - access_key: api
        secret_key: "{{ minio_api_secret_key }}"
        policies: [reader]
  delegate_to: localhost
  run_once: true
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: Take a user away
  novacorrente.platform.minio_settings:
    endpoints: [192.0.2.31:9000]
    access_key: root
    secret_key: "{{ minio_root_password }}"
    users:
      - access_key: former
        state: absent
"""

RETURN = r"""
endpoint:
  description: The node that was asked.
  returned: success
  type: str
  sample: 192.0.2.31:9000
actions:
  description: The changes that were, or in check mode would be, made.
  returned: success
  type: list
  elements: str
  sample: ["create_bucket gold: absent -> present"]
"""

import json
import ssl
import time
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._minio import (
    CREATE_BUCKET,
    REMOVE_POLICY,
    REMOVE_USER,
    RULE_ID,
    SET_LIFECYCLE,
    SET_POLICY,
    SET_USER,
    SET_USER_POLICIES,
    SET_VERSIONING,
    Bucket,
    Lifecycle,
    Seen,
    User,
    Wanted,
    WantedUser,
    steps,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._steps import Step, diff

try:
    import urllib3
    from minio import Minio
    from minio.commonconfig import Filter
    from minio.credentials.providers import StaticProvider
    from minio.error import MinioAdminException, MinioException, S3Error
    from minio.lifecycleconfig import Expiration, LifecycleConfig, NoncurrentVersionExpiration, Rule
    from minio.minioadmin import MinioAdmin
    from minio.versioningconfig import VersioningConfig

    MINIO_ERROR: str | None = None
except ImportError:
    MINIO_ERROR = traceback.format_exc()

CONNECT_TIMEOUT = 3
READ_TIMEOUT = 20
POLL = 1.0
# What the server says where a key is unknown, disabled or wrong. Any other refusal means that the signature was right.
WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "XMinioInvalidIAMCredentials")


class SettingsError(Exception):
    """Something that keeps the module from doing its work; the text is for the user."""


class MinioSettings:
    """Reads the cluster's settings, compares, and changes the difference."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.endpoints: list[str] = module.params["endpoints"]
        self.region: str = module.params["region"]
        self.access_key: str = module.params["access_key"]
        self.secret_key: str = module.params["secret_key"]
        self.secrets = {user["access_key"]: user["secret_key"] for user in module.params["users"]}
        try:
            context = ssl.create_default_context(cadata=module.params["ca_certificate"] or None)
        except ssl.SSLError as exc:
            raise SettingsError(f"ca_certificate: not a certificate in PEM form: {exc}") from exc
        self.http = urllib3.PoolManager(
            ssl_context=context,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            retries=urllib3.Retry(total=3, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504], raise_on_status=False),
        )

    def run(self) -> dict[str, t.Any]:
        self.check_users()
        wanted = self.wanted()
        endpoint = self.ready_endpoint()
        self.admin = MinioAdmin(endpoint=endpoint, credentials=StaticProvider(self.access_key, self.secret_key), region=self.region, http_client=self.http)
        self.s3 = self.client(endpoint, self.access_key, self.secret_key)
        self.endpoint = endpoint
        changes = steps(wanted, self.seen(wanted))
        if not self.module.check_mode:
            for step in changes:
                self.apply(step, wanted)
        return {"changed": bool(changes), "endpoint": endpoint, "actions": [str(step) for step in changes], "diff": diff(changes)}

    def check_users(self) -> None:
        for user in self.module.params["users"]:
            secret = user["secret_key"] or ""
            if user["state"] == "present" and not 8 <= len(secret) <= 40:
                raise SettingsError(
                    f"users: the secret key of {user['access_key']!r} has {len(secret)} characters; MinIO accepts 8 to 40."
                    if secret
                    else f"users: {user['access_key']!r} is to be present and has no secret_key."
                )

    def wanted(self) -> Wanted:
        return Wanted(
            buckets={
                item["name"]: Bucket(
                    versioning="enabled" if item["versioning"] else "off",
                    lifecycle=Lifecycle(
                        expire_days=item["expire_days"] or None,
                        noncurrent_days=item["noncurrent_days"] or None,
                        # MinIO takes one kind of Expiration in a rule; days remove the markers as well.
                        delete_markers=bool(item["noncurrent_days"]) and not item["expire_days"],
                    ),
                )
                for item in self.module.params["buckets"]
            },
            policies={
                item["name"]: {"Version": "2012-10-17", "Statement": item["statements"]} if item["state"] == "present" else None
                for item in self.module.params["policies"]
            },
            users=[WantedUser(item["access_key"], frozenset(item["policies"]) if item["state"] == "present" else None) for item in self.module.params["users"]],
        )

    def client(self, endpoint: str, access_key: str, secret_key: str) -> Minio:
        return Minio(endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=True, region=self.region, http_client=self.http)

    def ready_endpoint(self) -> str:
        """The first node that sees a cluster with write quorum, waiting for one as long as it was said."""
        deadline = time.monotonic() + self.module.params["wait_timeout"]
        while True:
            states = []
            for endpoint in self.endpoints:
                try:
                    answer = self.http.request("GET", f"https://{endpoint}/minio/health/cluster", retries=False)
                except urllib3.exceptions.ConnectTimeoutError:
                    states.append(f"{endpoint}: no connection within {CONNECT_TIMEOUT} s, is the port open to this controller?")
                    continue
                except urllib3.exceptions.HTTPError as exc:
                    states.append(f"{endpoint}: {type(exc).__name__}: {exc}")
                    continue
                if answer.status == 200 and not answer.headers.get("x-minio-server-status"):
                    return endpoint
                states.append(f"{endpoint}: answers {answer.status} {answer.headers.get('x-minio-server-status', '')}".rstrip())
            if time.monotonic() >= deadline:
                raise SettingsError(f"No node reports a healthy cluster within {self.module.params['wait_timeout']} s: {'; '.join(states)}")
            time.sleep(POLL)

    # Reading

    def seen(self, wanted: Wanted) -> Seen:
        there = {bucket.name for bucket in self.s3.list_buckets()}
        users = json.loads(self.admin.user_list()) if wanted.users else {}
        return Seen(
            buckets={name: self.bucket(name) for name in wanted.buckets if name in there},
            policies=json.loads(self.admin.policy_list()) if wanted.policies else {},
            users={user.access_key: self.user(user, users[user.access_key]) for user in wanted.users if user.access_key in users},
        )

    def bucket(self, name: str) -> Bucket:
        status = str(self.s3.get_bucket_versioning(name).status or "off").lower()
        config = self.s3.get_bucket_lifecycle(name)
        return Bucket(versioning=status, lifecycle=lifecycle_of(config.rules if config else []))

    def user(self, wanted: WantedUser, account: dict[str, t.Any]) -> User:
        enabled = account.get("status") == "enabled"
        policies = frozenset(filter(None, (account.get("policyName") or "").split(",")))
        valid = enabled and wanted.policies is not None and self.opens(wanted.access_key, self.secrets[wanted.access_key])
        return User(enabled=enabled, policies=policies, secret_valid=valid)

    def opens(self, access_key: str, secret_key: str) -> bool:
        """Whether the server takes a request that is signed with the key, allowed or not."""
        try:
            self.client(self.endpoint, access_key, secret_key).list_buckets()
        except S3Error as exc:
            return exc.code not in WRONG_KEY
        return True

    # Changing

    def apply(self, step: Step, wanted: Wanted) -> None:
        if step.action == CREATE_BUCKET:
            self.s3.make_bucket(step.name)
        elif step.action == SET_VERSIONING:
            self.s3.set_bucket_versioning(step.name, VersioningConfig("Enabled" if step.after == "enabled" else "Suspended"))
        elif step.action == SET_LIFECYCLE:
            self.set_lifecycle(step.name, wanted.buckets[step.name].lifecycle)
        elif step.action == SET_POLICY:
            self.admin.policy_add(step.name, policy=dict(wanted.policies[step.name] or {}))
        elif step.action == REMOVE_POLICY:
            self.admin.policy_remove(step.name)
        elif step.action == SET_USER:
            self.admin.user_add(step.name, self.secrets[step.name])
        elif step.action == SET_USER_POLICIES:
            self.set_user_policies(next(user for user in wanted.users if user.access_key == step.name))
        elif step.action == REMOVE_USER:
            self.admin.user_remove(step.name)
        else:
            raise AssertionError(f"unknown step {step.action}")

    def set_lifecycle(self, bucket: str, lifecycle: Lifecycle) -> None:
        rules = rules_of(lifecycle)
        if rules:
            self.s3.set_bucket_lifecycle(bucket, LifecycleConfig(rules))
        else:
            self.s3.delete_bucket_lifecycle(bucket)

    def set_user_policies(self, user: WantedUser) -> None:
        names = sorted(user.policies or ())
        if names:
            self.admin.policy_set(",".join(names), user=user.access_key)
        else:
            account = json.loads(self.admin.user_list())[user.access_key]
            self.admin.detach_policy((account.get("policyName") or "").split(","), user=user.access_key)


def lifecycle_of(rules: t.Sequence[Rule]) -> Lifecycle:
    """What the rules of a bucket come to. Rules that are not of our making are counted only."""
    ours = [rule for rule in rules if rule.rule_id == RULE_ID and rule.status == "Enabled"]
    rule = ours[0] if len(ours) == 1 else None
    known = rule is not None and not (rule.transition or rule.noncurrent_version_transition or (rule.rule_filter and rule.rule_filter.prefix))
    if rule is None or not known:
        return Lifecycle(foreign=len(rules))
    return Lifecycle(
        expire_days=rule.expiration.days if rule.expiration else None,
        noncurrent_days=rule.noncurrent_version_expiration.noncurrent_days if rule.noncurrent_version_expiration else None,
        delete_markers=bool(rule.expiration and rule.expiration.expired_object_delete_marker),
        foreign=len(rules) - 1,
    )


def rules_of(lifecycle: Lifecycle) -> list[Rule]:
    """The rule that makes a bucket's lifecycle, none where nothing ever expires."""
    expiration = None
    if lifecycle.expire_days:
        expiration = Expiration(days=lifecycle.expire_days)
    elif lifecycle.delete_markers:
        expiration = Expiration(expired_object_delete_marker=True)
    noncurrent = NoncurrentVersionExpiration(noncurrent_days=lifecycle.noncurrent_days) if lifecycle.noncurrent_days else None
    if expiration is None and noncurrent is None:
        return []
    return [Rule("Enabled", rule_filter=Filter(prefix=""), rule_id=RULE_ID, expiration=expiration, noncurrent_version_expiration=noncurrent)]


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "endpoints": {"type": "list", "elements": "str", "required": True},
            "ca_certificate": {"type": "str"},
            "access_key": {"type": "str", "required": True, "no_log": False},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "region": {"type": "str", "default": "us-east-1"},
            "wait_timeout": {"type": "int", "default": 90},
            "buckets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "versioning": {"type": "bool", "default": True},
                    "noncurrent_days": {"type": "int", "default": 0},
                    "expire_days": {"type": "int", "default": 0},
                },
            },
            "policies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "statements": {"type": "list", "elements": "dict", "default": []},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "access_key": {"type": "str", "required": True, "no_log": False},
                    "secret_key": {"type": "str", "no_log": True},
                    "policies": {"type": "list", "elements": "str", "default": []},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
        },
        supports_check_mode=True,
    )
    if MINIO_ERROR:
        module.fail_json(msg=missing_required_lib("minio"), exception=MINIO_ERROR)
    try:
        result = MinioSettings(module).run()
    except SettingsError as exc:
        module.fail_json(msg=str(exc))
    except S3Error as exc:
        if exc.code in WRONG_KEY:
            module.fail_json(msg=f"MinIO does not accept the administrator's access_key and secret_key ({exc.code}).")
        module.fail_json(msg=f"MinIO refused the request ({exc.code}): {exc.message}. Resource: {exc.resource}")
    except MinioAdminException as exc:
        module.fail_json(msg=f"MinIO refused an administrative request: {exc}")
    except (MinioException, urllib3.exceptions.HTTPError) as exc:
        module.fail_json(msg=f"MinIO did not answer as expected: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
