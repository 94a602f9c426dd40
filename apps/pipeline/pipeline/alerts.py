# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people that a run failed: by e-mail, by a Slack-compatible webhook, or both."""

from __future__ import annotations

import dataclasses
import email.message
import json
import logging
import smtplib
import ssl
import typing as t
import urllib.error
import urllib.request

from . import metrics
from .errors import PipelineError, RunFailed
from .settings import AlertSettings

log = logging.getLogger("pipeline.alerts")

TIMEOUT = 10


@dataclasses.dataclass(frozen=True)
class Alert:
    run_id: str
    summary: str
    details: tuple[str, ...]

    @classmethod
    def of(cls, run_id: str, error: BaseException | str) -> Alert:
        if isinstance(error, RunFailed):
            failures: t.Sequence[PipelineError] = error.failures
        elif isinstance(error, PipelineError):
            failures = [error]
        else:
            return cls(run_id, f"pipeline run {run_id} failed", (str(error)[:2000],))
        details = tuple(f"table {f.table or '-'}, step {f.step or '-'}, rule {f.rule or '-'}: {str(f)[:1500]}" for f in failures)
        return cls(run_id, f"pipeline run {run_id} failed for {len(failures)} table{'s' if len(failures) > 1 else ''}", details)


def send(settings: AlertSettings, alert: Alert) -> dict[str, bool]:
    """Send on every configured channel; a channel that fails is logged and does not stop the other."""
    results: dict[str, bool] = {}
    for channel, configured, action in (("email", settings.email, _email), ("webhook", bool(settings.webhook_url), _webhook)):
        if not configured:
            continue
        try:
            action(settings, alert)
            results[channel] = True
        except (OSError, smtplib.SMTPException, ValueError) as exc:
            # the type and status only: the text of an error may hold the webhook's URL, which is a secret
            reason = f"{type(exc).__name__} {getattr(exc, 'code', None) or getattr(exc, 'smtp_code', None) or ''}".strip()
            log.error("alert by %s failed: %s", channel, reason, extra={"channel": channel})
            results[channel] = False
        metrics.emit("alert", channel=channel, status="sent" if results[channel] else "failed")
    if not results:
        log.warning("no alert channel is configured: %s", alert.summary)
    return results


def _email(settings: AlertSettings, alert: Alert) -> None:
    message = email.message.EmailMessage()
    message["Subject"] = f"[{settings.platform}] {alert.summary}".replace("\n", " ").replace("\r", " ")
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message.set_content("\n".join((alert.summary, f"run id: {alert.run_id}", "", *alert.details, "")))
    context = ssl.create_default_context(cafile=settings.smtp_ca_file)
    server: smtplib.SMTP
    if settings.smtp_security == "tls":
        server = smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT, context=context)
    else:
        server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT)
    with server:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        if settings.smtp_username:
            server.login(settings.smtp_username, settings.smtp_password)
        server.send_message(message)


def _webhook(settings: AlertSettings, alert: Alert) -> None:
    text = "\n".join((f"*[{settings.platform}] {alert.summary}*", f"run id: {alert.run_id}", *(f"• {detail}" for detail in alert.details)))
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked by the settings
        settings.webhook_url, data=json.dumps({"text": text[:30000]}).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        response.read(1000)
