/* SPDX-License-Identifier: GPL-3.0-or-later */
import { isRecord, unusable } from './problem'
import type { Column, Row, Run, RunEvent, Table, TablePage, Value } from './types'

/** Answers are checked where they enter: a wrong shape is a problem with a name, not a crash while drawing. */
export function parseTables(body: unknown): Table[] {
  return list(body, 'tables').map((item) => {
    if (!isRecord(item) || typeof item.name !== 'string') throw unusable('The list of tables holds an entry without a name.')
    return {
      name: item.name,
      columns: parseColumns(item.columns),
      rows: typeof item.rows === 'number' ? item.rows : null,
      builtAt: text(item.built_at),
      version: text(item.etag),
    }
  })
}

export function parsePage(body: unknown): TablePage {
  const rows = list(body, 'rows').map((item): Row => {
    if (!isRecord(item)) throw unusable('The table holds a row that is not an object.')
    return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, toValue(value)]))
  })
  const fields = isRecord(body) ? body : {}
  return {
    columns: parseColumns(fields.columns),
    rows,
    total: typeof fields.total === 'number' ? fields.total : rows.length,
  }
}

export function parseRuns(body: unknown): Run[] {
  return list(body, 'runs').flatMap((item) => parseRun(item) ?? [])
}

function parseRun(value: unknown): Run | null {
  if (!isRecord(value)) return null
  const id = text(value.run_id) ?? text(value.id)
  if (id === null || typeof value.status !== 'string') return null
  return {
    id,
    tables: Array.isArray(value.tables) ? value.tables.map(String) : [],
    trigger: text(value.trigger),
    status: value.status,
    queuedAt: text(value.queued_at),
    startedAt: text(value.started_at),
    finishedAt: text(value.finished_at),
    detail: text(value.error) ?? (value.status === 'running' ? lastStep(value.steps) : null),
  }
}

function lastStep(steps: unknown): string | null {
  const step: unknown = Array.isArray(steps) ? steps.at(-1) : null
  return isRecord(step) ? stepText(text(step.table), text(step.step), text(step.status), text(step.message)) : null
}

export function stepText(table: string | null, step: string | null, status: string | null, message: string | null): string {
  return `${table ?? 'all tables'}: ${step ?? 'step'} ${status ?? ''}${message === null ? '' : ` – ${message}`}`
}

export function parseEvent(value: unknown): RunEvent | null {
  if (!isRecord(value)) return null
  const runId = text(value.run_id)
  if (runId === null || typeof value.status !== 'string') return null
  return {
    runId,
    table: text(value.table),
    step: text(value.step),
    status: value.status,
    at: text(value.ts) ?? new Date().toISOString(),
    message: text(value.message),
  }
}

function parseColumns(value: unknown): Column[] {
  if (!Array.isArray(value)) return []
  return value.flatMap((item) =>
    isRecord(item) && typeof item.name === 'string' ? { name: item.name, type: text(item.type) ?? '' } : [],
  )
}

function list(body: unknown, name: string): unknown[] {
  if (Array.isArray(body)) return body
  const found = isRecord(body) ? (body[name] ?? body.items) : undefined
  if (!Array.isArray(found)) throw unusable(`The answer holds no list of ${name}.`)
  return found
}

function toValue(value: unknown): Value {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value
  return JSON.stringify(value)
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
