/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { ApiClient, Exchange } from './client'

export type ApiState = 'unknown' | 'ok' | 'degraded' | 'offline'

export interface Health {
  state: ApiState
  reason: string
  version: string | null
  /** Goes up each time the API is well again after a failure: what failed meanwhile is worth asking again. */
  recoveries: number
}

/** An answer slower than this is a sign of trouble even if it is right. */
export const SLOW = 2_000

export function judge(exchange: Exchange): { state: ApiState; reason: string } {
  const { status, milliseconds, version } = exchange
  if (status === 0) return { state: 'offline', reason: 'no answer' }
  // Without the API's own header it is the edge that answers: no member of the API took the request.
  if (version === null && (status === 502 || status === 503 || status === 504)) return { state: 'offline', reason: `status ${status}` }
  if (status >= 500 || status === 429) return { state: 'degraded', reason: `status ${status}` }
  if (milliseconds > SLOW) return { state: 'degraded', reason: `answered in ${(milliseconds / 1000).toFixed(1)} s` }
  return { state: 'ok', reason: `answered in ${Math.round(milliseconds)} ms` }
}

/** The API's state as the last exchange showed it. */
export class HealthStore {
  private health: Health = { state: 'unknown', reason: 'not asked yet', version: null, recoveries: 0 }
  private readonly listeners = new Set<() => void>()

  constructor(client: ApiClient) {
    client.observe((exchange) => {
      const { state, reason } = judge(exchange)
      const back = state === 'ok' && (this.health.state === 'offline' || this.health.state === 'degraded')
      this.health = {
        state,
        reason,
        version: exchange.version ?? this.health.version,
        recoveries: this.health.recoveries + (back ? 1 : 0),
      }
      for (const listener of this.listeners) listener()
    })
  }

  readonly current = (): Health => this.health

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => {
      this.listeners.delete(listener)
    }
  }
}
