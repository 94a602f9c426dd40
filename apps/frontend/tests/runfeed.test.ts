/* SPDX-License-Identifier: GPL-3.0-or-later */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { RunFeed, type FeedState } from '../src/api/runfeed'
import { changesTables, withEvents } from '../src/api/runs'
import type { Run, RunEvent } from '../src/api/types'
import { FakeSocket } from './fakes'

describe('RunFeed', () => {
  let events: RunEvent[]
  let states: FeedState[]
  let opened: number
  let feed: RunFeed

  beforeEach(() => {
    vi.useFakeTimers()
    FakeSocket.install()
    events = []
    states = []
    opened = 0
    feed = new RunFeed({
      url: () => 'wss://platform.test/ws/runs',
      onEvent: (event) => events.push(event),
      onState: (state) => states.push(state),
      onOpen: () => (opened += 1),
      random: () => 0.5,
    })
    feed.start()
  })

  afterEach(() => {
    feed.stop()
    vi.useRealTimers()
  })

  it('hands on events and ignores what it does not know', () => {
    FakeSocket.last.onopen?.()
    FakeSocket.last.say({ type: 'run', run_id: 'a', table: 'weather', step: 'load_to_gold', status: 'started', ts: '2026-01-01T02:00:00Z' })
    FakeSocket.last.say({ type: 'hello' })
    FakeSocket.last.onmessage?.({ data: 'not json' })
    expect(states).toEqual(['connecting', 'live'])
    expect(events).toEqual([
      { runId: 'a', table: 'weather', step: 'load_to_gold', status: 'started', at: '2026-01-01T02:00:00Z', message: null },
    ])
  })

  it('comes back after longer and longer random delays, up to a limit', () => {
    const delays: number[] = []
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const before = Date.now()
      const { length } = FakeSocket.all
      FakeSocket.last.drop()
      while (FakeSocket.all.length === length) vi.advanceTimersByTime(100)
      delays.push(Date.now() - before)
    }
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
  })

  it('starts with short delays again after a connection that lasted', () => {
    FakeSocket.last.drop()
    vi.advanceTimersByTime(500)
    FakeSocket.last.onopen?.()
    vi.advanceTimersByTime(60_000)
    FakeSocket.last.drop()
    vi.advanceTimersByTime(500)
    expect(FakeSocket.all).toHaveLength(3)
    FakeSocket.last.onopen?.()
    expect(opened).toBe(2)
  })

  it('goes to another member at once when the server says reconnect', () => {
    const first = FakeSocket.last
    first.onopen?.()
    vi.advanceTimersByTime(5_000)
    first.say({ type: 'reconnect' })
    expect(FakeSocket.all).toHaveLength(2)
    expect(first.closed).toBe(true)
    first.drop()
    expect(FakeSocket.all).toHaveLength(2)
  })

  it('waits as long as the server asks for before it comes back', () => {
    FakeSocket.last.onopen?.()
    FakeSocket.last.say({ type: 'reconnect', after_ms: 700 })
    vi.advanceTimersByTime(699)
    expect(FakeSocket.all).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(FakeSocket.all).toHaveLength(2)
  })

  it('leaves a connection that has gone silent', () => {
    const first = FakeSocket.last
    first.onopen?.()
    for (let count = 0; count < 10; count += 1) {
      vi.advanceTimersByTime(25_000)
      first.say({ type: 'ping' })
    }
    expect(FakeSocket.all).toHaveLength(1)
    vi.advanceTimersByTime(80_000)
    expect(first.closed).toBe(true)
    vi.advanceTimersByTime(1_000)
    expect(FakeSocket.all).toHaveLength(2)
  })

  it('does not storm a server that says reconnect each time', () => {
    FakeSocket.last.onopen?.()
    for (let count = 0; count < 5; count += 1) {
      FakeSocket.last.say({ type: 'reconnect' })
      FakeSocket.last.onopen?.()
    }
    expect(FakeSocket.all.length).toBeLessThanOrEqual(3)
    expect(states).toContain('waiting')
  })

  it('stays away when it is refused, and when it was stopped', () => {
    FakeSocket.last.drop(4401)
    vi.advanceTimersByTime(120_000)
    expect(FakeSocket.all).toHaveLength(1)
    expect(states.at(-1)).toBe('refused')
    feed.stop()
    vi.advanceTimersByTime(120_000)
    expect(FakeSocket.all).toHaveLength(1)
  })

  it('does not wait when the network is back', () => {
    FakeSocket.last.drop()
    globalThis.dispatchEvent(new Event('online'))
    expect(FakeSocket.all).toHaveLength(2)
    vi.advanceTimersByTime(20_000)
    expect(FakeSocket.all).toHaveLength(2)
  })
})

describe('withEvents', () => {
  const run: Run = {
    id: 'a',
    tables: ['weather_monthly'],
    trigger: 'schedule',
    status: 'running',
    queuedAt: '2026-01-01T02:00:00.000+00:00',
    startedAt: '2026-01-01T02:00:01.000+00:00',
    finishedAt: null,
    detail: null,
  }
  const event = (status: string, second: number, more: Partial<RunEvent> = {}): RunEvent => ({
    runId: 'a',
    table: null,
    step: null,
    status,
    at: `2026-01-01T02:00:0${second}.000+00:00`,
    message: null,
    ...more,
  })

  it('shows the step a run is at, and its end', () => {
    const failing = event('failed', 3, { table: 'weather_monthly', step: 'validate_pipeline', message: 'rule month_unique: 2 rows' })
    expect(withEvents([run], [failing])[0]).toMatchObject({
      status: 'running',
      detail: 'weather_monthly: validate_pipeline failed – rule month_unique: 2 rows',
    })
    const end = event('failed', 4, { message: 'one table failed' })
    expect(withEvents([run], [failing, end])[0]).toMatchObject({ status: 'failed', finishedAt: end.at, detail: 'one table failed' })
    const published = event('published', 3, { table: 'weather_monthly', step: 'load_to_gold' })
    expect([failing, end, event('started', 1), published].map(changesTables)).toEqual([false, true, false, true])
  })

  it('does not go back when the list is newer than an announcement', () => {
    const listed = { ...run, status: 'succeeded', finishedAt: '2026-01-01T02:00:05+00:00' }
    expect(withEvents([listed], [event('started', 1), event('succeeded', 2, { table: 't', step: 's' })])).toEqual([listed])
  })

  it('takes a run up again that starts anew, and adds one that was not listed', () => {
    const listed = { ...run, status: 'failed', finishedAt: '2026-01-01T02:00:05+00:00', detail: 'storage was away' }
    const events = [event('started', 7), event('queued', 8, { runId: 'b' })]
    expect(withEvents([listed], events)).toMatchObject([
      { id: 'b', status: 'queued' },
      { id: 'a', status: 'running', startedAt: '2026-01-01T02:00:07.000+00:00', finishedAt: null, detail: null },
    ])
  })
})
