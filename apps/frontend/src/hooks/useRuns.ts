/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect, useState } from 'react'
import type { ApiError } from '../api/problem'
import { RunFeed, type FeedState } from '../api/runfeed'
import type { Run } from '../api/types'
import { useServices, useSession } from '../context'
import { useResource } from './useResource'

const KEPT = 50

/** The last runs: asked for once a connection, and kept up to date by the WebSocket in between. */
export function useRuns(): { runs: Run[] | null; error: ApiError | null; feed: FeedState; reload: () => void } {
  const { client } = useServices()
  const signedIn = useSession() === 'signed-in'
  const [feed, setFeed] = useState<FeedState>('connecting')
  const [news, setNews] = useState<ReadonlyMap<string, Run>>(new Map())
  const { data, error, reload } = useResource('runs', (signal) => client.runs(signal))

  useEffect(() => {
    let first = true
    const listener = new RunFeed({
      url: () => client.socketUrl('/ws/runs'),
      protocols: () => client.socketProtocols(),
      onRun: (run) => {
        setNews((before) => new Map(before).set(run.id, run))
      },
      onState: setFeed,
      onOpen: () => {
        if (!first) reload()
        first = false
      },
    })
    listener.start()
    return () => {
      listener.stop()
    }
  }, [client, reload, signedIn])

  return { runs: data === null ? null : mergeRuns(data, news), error, feed, reload }
}

/** One list, newest first; what the WebSocket said about a run is newer than what the list said. */
export function mergeRuns(runs: Run[], news: ReadonlyMap<string, Run>): Run[] {
  const all = new Map(runs.map((run) => [run.id, run]))
  for (const [id, run] of news) {
    const known = all.get(id)
    if (known?.finishedAt && !run.finishedAt) continue
    all.set(id, { ...run, startedAt: run.startedAt ?? known?.startedAt ?? null })
  }
  return [...all.values()].sort((a, b) => (b.startedAt ?? '').localeCompare(a.startedAt ?? '')).slice(0, KEPT)
}
