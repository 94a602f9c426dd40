/* SPDX-License-Identifier: GPL-3.0-or-later */
import { ApiError, errorFrom, isRecord, titleOf, unusable } from './problem'
import { parsePage, parseRuns, parseTables } from './parse'
import type { Run, Session, Table, TablePage, TableQuery } from './types'

/** What one exchange told about the API, whether it succeeded or not. */
export interface Exchange {
  /** 0 when no answer came. */
  status: number
  milliseconds: number
  version: string | null
}

export interface ClientOptions {
  /** Base address of the API; empty for the page's own origin. */
  baseUrl?: string
  /** The bearer token to send, if there is one. */
  token?: () => string | null
  timeout?: number
  fetch?: typeof fetch
}

const TIMEOUT = 15_000
/** The most rows that the API gives in one answer. */
const PAGE_LIMIT = 1_000

export class ApiClient {
  private readonly baseUrl: string
  private readonly token: () => string | null
  private readonly timeout: number
  private readonly fetch: typeof fetch
  private readonly listeners = new Set<(exchange: Exchange) => void>()
  /** The id of the last request, for a report to the operators. */
  lastRequestId: string | null = null

  constructor(options: ClientOptions = {}) {
    this.baseUrl = (options.baseUrl ?? '').replace(/\/+$/, '')
    this.token = options.token ?? (() => null)
    this.timeout = options.timeout ?? TIMEOUT
    this.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init))
  }

  observe(listener: (exchange: Exchange) => void): () => void {
    this.listeners.add(listener)
    return () => {
      this.listeners.delete(listener)
    }
  }

  async tables(signal?: AbortSignal): Promise<Table[]> {
    return parseTables(await this.request('/api/v1/tables', { signal }))
  }

  async rows(table: string, query: TableQuery, signal?: AbortSignal): Promise<TablePage> {
    return parsePage(await this.request(tablePath(table, query), { signal }))
  }

  /** The first rows of a table, more than the API gives in one answer. */
  async manyRows(table: string, query: Omit<TableQuery, 'limit' | 'offset'>, most: number, signal?: AbortSignal): Promise<TablePage> {
    const first = await this.rows(table, { ...query, limit: Math.min(PAGE_LIMIT, most), offset: 0 }, signal)
    const offsets: number[] = []
    for (let offset = PAGE_LIMIT; offset < Math.min(first.total, most); offset += PAGE_LIMIT) offsets.push(offset)
    const rest = await Promise.all(
      offsets.map((offset) => this.rows(table, { ...query, limit: Math.min(PAGE_LIMIT, most - offset), offset }, signal)),
    )
    return { ...first, rows: [first, ...rest].flatMap(({ rows }) => rows) }
  }

  async runs(signal?: AbortSignal): Promise<Run[]> {
    return parseRuns(await this.request('/api/v1/runs', { signal }))
  }

  async signIn(username: string, password: string, signal?: AbortSignal): Promise<Session> {
    const body = await this.request('/api/v1/auth/token', {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'password', username, password }),
      signal,
      anonymous: true,
    })
    if (!isRecord(body) || typeof body.access_token !== 'string') throw unusable('The answer holds no access token.')
    const lifetime = typeof body.expires_in === 'number' ? body.expires_in : 3600
    return { token: body.access_token, expiresAt: Date.now() + lifetime * 1000 }
  }

  /** The address of a WebSocket next to the API. */
  socketUrl(path: string): string {
    const base = new URL(this.baseUrl === '' ? '/' : this.baseUrl, globalThis.location.href)
    base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:'
    base.pathname = `${base.pathname.replace(/\/+$/, '')}${path}`
    return base.href
  }

  /** A browser cannot send headers with a WebSocket: the token goes along as a subprotocol, which no log records. */
  socketProtocols(): string[] {
    const token = this.token()
    return token === null ? [] : ['bearer', token]
  }

  private async request(path: string, init: RequestInit & { anonymous?: boolean }): Promise<unknown> {
    const { anonymous = false, signal: cancelled, ...rest } = init
    const headers = new Headers({ Accept: 'application/json, application/problem+json' })
    const token = anonymous ? null : this.token()
    if (token !== null) headers.set('Authorization', `Bearer ${token}`)
    const sentId = newRequestId()
    if (sentId !== null) headers.set('X-Request-ID', sentId)
    const started = performance.now()
    const deadline = AbortSignal.timeout(this.timeout)
    const signal = cancelled ? AbortSignal.any([cancelled, deadline]) : deadline

    let response: Response
    try {
      response = await this.fetch(`${this.baseUrl}${path}`, { ...rest, headers, signal, cache: 'no-cache' })
    } catch (error) {
      if (cancelled?.aborted) throw error
      this.tell({ status: 0, milliseconds: performance.now() - started, version: null })
      const detail = deadline.aborted
        ? `No answer came within ${Math.round(this.timeout / 1000)} seconds.`
        : 'No connection could be made. Check the network; the page tries again by itself.'
      this.lastRequestId = sentId
      throw new ApiError({ type: 'about:blank', title: titleOf(0), status: 0, detail }, sentId)
    }

    const requestId = response.headers.get('x-request-id') ?? sentId
    this.lastRequestId = requestId
    this.tell({
      status: response.status,
      milliseconds: performance.now() - started,
      version: response.headers.get('x-platform-version'),
    })
    if (!response.ok) throw await errorFrom(response, requestId)
    try {
      return await response.json()
    } catch (error) {
      if (cancelled?.aborted) throw error
      throw unusable('The answer is not JSON.', requestId)
    }
  }

  private tell(exchange: Exchange): void {
    for (const listener of this.listeners) listener(exchange)
  }
}

/** Path and query of one page of a table. */
export function tablePath(table: string, query: TableQuery): string {
  const parameters = new URLSearchParams({ limit: String(query.limit), offset: String(query.offset) })
  if (query.orderBy) parameters.set('order_by', `${query.descending ? '-' : ''}${query.orderBy}`)
  if (query.columns && query.columns.length > 0) parameters.set('columns', query.columns.join(','))
  for (const { column, operator, value } of query.filters ?? []) {
    parameters.append('filter', operator === 'contains' ? `${column}:like:%${value}%` : `${column}:${operator}:${value}`)
  }
  return `/api/v1/tables/${encodeURIComponent(table)}?${parameters}`
}

/** A request without an answer has an id too; browsers make one in secure contexts only. */
function newRequestId(): string | null {
  return typeof crypto.randomUUID === 'function' ? crypto.randomUUID() : null
}
