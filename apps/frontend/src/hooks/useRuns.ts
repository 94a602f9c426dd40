/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect, useMemo, useRef, useState } from 'react'
import type { ApiError } from '../api/problem'
import { RunFeed, type FeedState } from '../api/runfeed'
import { changesTables, withEvents } from '../api/runs'
import type { Run, RunEvent } from '../api/types'
import { useServices, useSignedIn } from '../context'
import { useResource } from './useResource'

const KEPT_EVENTS = 500

/**
 * The last runs: asked for once a connection, and kept up to date by the WebSocket in between. They are for those who are
 * signed in, so nothing is asked for before.
 */
export function useRuns(onNews: () => void): { runs: Run[] | null; error: ApiError | null; feed: FeedState; reload: () => void } {
  const { client } = useServices()
  const signedIn = useSignedIn()
  const [feed, setFeed] = useState<FeedState>('connecting')
  const [events, setEvents] = useState<RunEvent[]>([])
  const { data, error, reload } = useResource(signedIn ? 'runs' : null, (signal) => client.runs(signal))
  const latestOnNews = useRef(onNews)
  useEffect(() => {
    latestOnNews.current = onNews
  })

  useEffect(() => {
    if (!signedIn) return
    let first = true
    const listener = new RunFeed({
      url: () => client.socketUrl('/ws/runs'),
      protocols: () => client.socketProtocols(),
      onEvent: (event) => {
        setEvents((before) => [...before, event].slice(-KEPT_EVENTS))
        if (changesTables(event)) latestOnNews.current()
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

  const runs = useMemo(() => (data === null ? null : withEvents(data, events)), [data, events])
  return { runs, error, feed, reload }
}
