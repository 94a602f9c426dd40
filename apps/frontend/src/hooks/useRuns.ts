/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect, useMemo, useRef, useState } from 'react'
import type { ApiError } from '../api/problem'
import { RunFeed, type FeedState } from '../api/runfeed'
import { isEnd, withEvents } from '../api/runs'
import type { Run, RunEvent } from '../api/types'
import { useServices, useSession } from '../context'
import { useResource } from './useResource'

const KEPT_EVENTS = 500

/** The last runs: asked for once a connection, and kept up to date by the WebSocket in between. */
export function useRuns(onEnd: () => void): { runs: Run[] | null; error: ApiError | null; feed: FeedState; reload: () => void } {
  const { client } = useServices()
  const signedIn = useSession() === 'signed-in'
  const [feed, setFeed] = useState<FeedState>('connecting')
  const [events, setEvents] = useState<RunEvent[]>([])
  const { data, error, reload } = useResource('runs', (signal) => client.runs(signal))
  const latestOnEnd = useRef(onEnd)
  useEffect(() => {
    latestOnEnd.current = onEnd
  })

  useEffect(() => {
    let first = true
    const listener = new RunFeed({
      url: () => client.socketUrl('/ws/runs'),
      protocols: () => client.socketProtocols(),
      onEvent: (event) => {
        setEvents((before) => [...before, event].slice(-KEPT_EVENTS))
        if (isEnd(event)) latestOnEnd.current()
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
