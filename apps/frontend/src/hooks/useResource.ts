/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useCallback, useEffect, useRef, useState } from 'react'
import { ApiError, titleOf } from '../api/problem'
import { useHealth, useServices, useSignedIn } from '../context'

export interface Resource<T> {
  /** The last good answer; it stays in sight while a new one is asked for. */
  data: T | null
  error: ApiError | null
  loading: boolean
  reload: () => void
}

/**
 * Ask the API for something and ask again when `key` changes, when the session changes, and after an outage if the last
 * answer was a failure. A null key asks for nothing.
 */
export function useResource<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>): Resource<T> {
  const { session } = useServices()
  const { recoveries } = useHealth()
  const signedIn = useSignedIn()
  const [attempt, setAttempt] = useState(0)
  const [state, setState] = useState<{ key: string | null; data: T | null; error: ApiError | null; loading: boolean }>({
    key: null,
    data: null,
    error: null,
    loading: key !== null,
  })
  const latestAsk = useRef(ask)
  useEffect(() => {
    latestAsk.current = ask
  })

  useEffect(() => {
    if (key === null) return
    const cancel = new AbortController()
    setState((before) => ({ ...before, loading: true }))
    latestAsk.current(cancel.signal).then(
      (data) => {
        if (!cancel.signal.aborted) setState({ key, data, error: null, loading: false })
      },
      (reason: unknown) => {
        if (cancel.signal.aborted) return
        const error = reason instanceof ApiError ? reason : unexpected(reason)
        // A token that is no longer taken is dropped; the same is then asked for without one.
        if (error.status === 401) session.set(null)
        setState((before) => ({ ...before, error, loading: false }))
      },
    )
    return () => {
      cancel.abort()
    }
  }, [key, attempt, signedIn, session])

  const failed = state.error !== null
  const seen = useRef(recoveries)
  useEffect(() => {
    if (seen.current === recoveries) return
    seen.current = recoveries
    if (failed) setAttempt((count) => count + 1)
  }, [recoveries, failed])

  const reload = useCallback(() => {
    setAttempt((count) => count + 1)
  }, [])
  if (key === null) return { data: null, error: null, loading: false, reload }
  return { data: state.data, error: state.error, loading: state.loading, reload }
}

function unexpected(reason: unknown): ApiError {
  const detail = reason instanceof Error ? reason.message : String(reason)
  return new ApiError({ type: 'about:blank', title: titleOf(500), status: 500, detail })
}
