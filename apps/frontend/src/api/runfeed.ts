/* SPDX-License-Identifier: GPL-3.0-or-later */
import { parseEvent } from './parse'
import { isRecord } from './problem'
import type { RunEvent } from './types'

export type FeedState = 'connecting' | 'live' | 'waiting' | 'refused' | 'stopped'

export interface RunFeedOptions {
  url: () => string
  protocols?: () => string[]
  onEvent: (event: RunEvent) => void
  onState: (state: FeedState) => void
  /** Called at each new connection: what was announced in between was missed and must be asked for. */
  onOpen?: () => void
  random?: () => number
}

const FIRST_DELAY = 1_000
const LONGEST_DELAY = 30_000
/** A connection that lasted this long was a good one: the next failure starts again with a short delay. */
const STABLE = 10_000
/** The API says something at least every 25 s; a connection that is silent for this long is dead. */
const SILENCE = 80_000
/** Status of a policy violation, and of "not signed in" in the range for applications. */
const REFUSED = new Set([1008, 4401, 4403])

/**
 * Listens to pipeline runs and comes back after a loss. Delays grow and are random over their whole length, so that the
 * clients of a restarted member do not all come back in the same moment. A member that is about to stop says
 * `reconnect`: then the way leads to another member, at once or after the short while that it asks for.
 */
export class RunFeed {
  private readonly options: RunFeedOptions
  private readonly random: () => number
  private socket: WebSocket | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private watchdog: ReturnType<typeof setTimeout> | undefined
  private failures = 0
  private openedAt = 0
  private running = false

  constructor(options: RunFeedOptions) {
    this.options = options
    this.random = options.random ?? Math.random
  }

  start(): void {
    if (this.running) return
    this.running = true
    globalThis.addEventListener('online', this.connectNow)
    this.connect()
  }

  stop(): void {
    this.running = false
    globalThis.removeEventListener('online', this.connectNow)
    this.leave()
    this.options.onState('stopped')
  }

  private readonly connectNow = (): void => {
    if (this.socket === null) this.connect()
  }

  private connect(): void {
    this.leave()
    this.options.onState('connecting')
    let socket: WebSocket
    try {
      socket = new WebSocket(this.options.url(), this.options.protocols?.() ?? [])
    } catch {
      this.retry()
      return
    }
    this.socket = socket
    socket.onopen = () => {
      this.openedAt = Date.now()
      this.watch()
      this.options.onState('live')
      this.options.onOpen?.()
    }
    socket.onmessage = (event) => {
      this.watch()
      this.receive(event.data)
    }
    socket.onclose = (event) => {
      this.socket = null
      clearTimeout(this.watchdog)
      if (REFUSED.has(event.code)) {
        this.options.onState('refused')
        return
      }
      this.retry()
    }
  }

  private receive(data: unknown): void {
    const message = parse(data)
    if (message === null) return
    if (message.type === 'reconnect') {
      // A server that says so again and again gets the ordinary delays, not a storm.
      const storm = Date.now() - this.openedAt < 1_000 && this.failures > 0
      const after = typeof message.after_ms === 'number' ? Math.min(Math.max(message.after_ms, 0), LONGEST_DELAY) : 0
      this.leave()
      if (storm) {
        this.retry()
      } else if (after > 0) {
        this.failures += 1
        this.options.onState('waiting')
        this.timer = setTimeout(this.connectNow, after)
      } else {
        this.failures += 1
        this.connect()
      }
      return
    }
    const event = parseEvent(message.event ?? message)
    if (event !== null) this.options.onEvent(event)
  }

  private retry(): void {
    if (!this.running) return
    if (this.openedAt > 0 && Date.now() - this.openedAt >= STABLE) this.failures = 0
    this.openedAt = 0
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.failures)
    this.failures += 1
    this.options.onState('waiting')
    this.timer = setTimeout(this.connectNow, this.random() * longest)
  }

  private watch(): void {
    clearTimeout(this.watchdog)
    this.watchdog = setTimeout(() => {
      this.leave()
      this.retry()
    }, SILENCE)
  }

  private leave(): void {
    clearTimeout(this.timer)
    clearTimeout(this.watchdog)
    const socket = this.socket
    this.socket = null
    if (socket === null) return
    socket.onopen = null
    socket.onmessage = null
    socket.onclose = null
    socket.close(1000)
  }
}

function parse(data: unknown): Record<string, unknown> | null {
  if (typeof data !== 'string') return null
  try {
    const value: unknown = JSON.parse(data)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}
