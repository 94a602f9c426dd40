/* SPDX-License-Identifier: GPL-3.0-or-later */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { RunFeed, type FeedState } from '../src/api/runfeed'
import type { Run } from '../src/api/types'
import { mergeRuns } from '../src/hooks/useRuns'
import { FakeSocket } from './fakes'

describe('RunFeed', () => {
  let runs: Run[]
  let states: FeedState[]
  let opened: number
  let feed: RunFeed

  beforeEach(() => {
    vi.useFakeTimers()
    FakeSocket.install()
    runs = []
    states = []
    opened = 0
    feed = new RunFeed({
      url: () => 'wss://platform.test/ws/runs',
      onRun: (run) => runs.push(run),
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

  it('hands on runs and ignores what it does not know', () => {
    FakeSocket.last.onopen?.()
    FakeSocket.last.say({ type: 'run', run: { id: 'a', pipeline: 'weather', status: 'running' } })
    FakeSocket.last.say({ type: 'hello' })
    FakeSocket.last.onmessage?.({ data: 'not json' })
    expect(states).toEqual(['connecting', 'live'])
    expect(runs.map(({ id, status }) => [id, status])).toEqual([['a', 'running']])
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

describe('mergeRuns', () => {
  const run = (id: string, status: string, startedAt: string | null, finishedAt: string | null = null): Run => ({
    id,
    pipeline: 'weather',
    status,
    startedAt,
    finishedAt,
    detail: null,
  })

  it('takes the news over the list, but never back to an unfinished run', () => {
    const listed = [run('a', 'running', '2026-01-02'), run('b', 'succeeded', '2026-01-01', '2026-01-01')]
    const news = new Map([
      ['a', run('a', 'failed', null, '2026-01-03')],
      ['b', run('b', 'running', '2026-01-01')],
      ['c', run('c', 'running', '2026-01-04')],
    ])
    expect(mergeRuns(listed, news).map(({ id, status }) => `${id} ${status}`)).toEqual(['c running', 'a failed', 'b succeeded'])
  })
})
