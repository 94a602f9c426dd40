/* SPDX-License-Identifier: GPL-3.0-or-later */

export type Value = string | number | boolean | null
export type Row = Record<string, Value>

export interface Column {
  name: string
  type: string
}

export interface Table {
  name: string
  columns: Column[]
  rows: number | null
  builtAt: string | null
  /** Changes with the content. */
  version: string | null
}

export interface TablePage {
  columns: Column[]
  rows: Row[]
  total: number
}

export type FilterOperator = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge' | 'contains'

export interface Filter {
  column: string
  operator: FilterOperator
  value: string
}

export interface TableQuery {
  limit: number
  offset: number
  orderBy?: string | null
  descending?: boolean
  columns?: string[]
  filters?: Filter[]
}

export interface Run {
  id: string
  /** Empty for a run over all tables. */
  tables: string[]
  trigger: string | null
  status: string
  queuedAt: string | null
  startedAt: string | null
  finishedAt: string | null
  detail: string | null
}

/** What the WebSocket announces: the state of a run (no table), or of one step of it. */
export interface RunEvent {
  runId: string
  table: string | null
  step: string | null
  status: string
  at: string
  message: string | null
}

export interface Session {
  token: string
  /** Milliseconds since the epoch. */
  expiresAt: number
}
