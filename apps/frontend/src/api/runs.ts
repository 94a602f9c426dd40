/* SPDX-License-Identifier: GPL-3.0-or-later */
import { stepText } from './parse'
import type { Run, RunEvent } from './types'

/** The listed runs with what was announced since, newest first. */
export function withEvents(listed: Run[], events: RunEvent[], kept = 50): Run[] {
  const runs = new Map(listed.map((run) => [run.id, run]))
  for (const event of events) runs.set(event.runId, applyEvent(runs.get(event.runId) ?? blank(event), event))
  return [...runs.values()].sort((a, b) => time(b.startedAt ?? b.queuedAt) - time(a.startedAt ?? a.queuedAt)).slice(0, kept)
}

/** True for an announcement after which the tables may differ: one was published, or a run as a whole has ended. */
export function changesTables(event: RunEvent): boolean {
  return event.table === null ? event.status !== 'queued' && event.status !== 'started' : event.status === 'published'
}

function applyEvent(run: Run, event: RunEvent): Run {
  // The list may be newer than an announcement that came before it.
  if (run.finishedAt !== null && time(event.at) < time(run.finishedAt)) return run
  if (event.table !== null) {
    if (run.finishedAt !== null) return run
    return { ...run, status: 'running', detail: stepText(event.table, event.step, event.status, event.message) }
  }
  if (event.status === 'queued') return run.startedAt === null ? { ...run, status: 'queued', queuedAt: event.at } : run
  if (event.status === 'started') {
    const again = run.startedAt === null || run.finishedAt !== null
    return { ...run, status: 'running', startedAt: again ? event.at : run.startedAt, finishedAt: null, detail: null }
  }
  return { ...run, status: event.status, finishedAt: run.finishedAt ?? event.at, detail: event.message }
}

function blank(event: RunEvent): Run {
  return {
    id: event.runId,
    tables: [],
    trigger: null,
    status: 'running',
    queuedAt: event.at,
    startedAt: null,
    finishedAt: null,
    detail: null,
  }
}

function time(value: string | null): number {
  return value === null ? 0 : Date.parse(value) || 0
}
