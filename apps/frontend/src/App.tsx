/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect } from 'react'
import { ApiStatus } from './components/ApiStatus'
import { Dashboard } from './components/Dashboard'
import { LoginForm } from './components/LoginForm'
import { ProblemNotice } from './components/ProblemNotice'
import { useServices, useSession } from './context'
import { useResource } from './hooks/useResource'

const POLL = 15_000

export function App() {
  const { client, session } = useServices()
  const state = useSession()
  const { data, error, reload } = useResource('tables', (signal) => client.tables(signal))

  // The list of tables is also the probe of the API's state.
  useEffect(() => {
    if (state === 'needed') return
    const timer = setInterval(() => {
      if (!document.hidden) reload()
    }, POLL)
    return () => {
      clearInterval(timer)
    }
  }, [reload, state])

  return (
    <>
      <header className="top">
        <div className="brand">
          <img src="/favicon.svg" width="32" height="32" alt="" />
          <h1>Nova Corrente</h1>
        </div>
        <div className="top-right">
          <ApiStatus />
          {state === 'signed-in' && (
            <button
              type="button"
              onClick={() => {
                session.set(null)
              }}
            >
              Sign out
            </button>
          )}
        </div>
      </header>
      <main>
        {state === 'needed' ? (
          <LoginForm />
        ) : data !== null ? (
          <Dashboard tables={data} onNews={reload} />
        ) : error !== null ? (
          <ProblemNotice error={error} onRetry={reload} />
        ) : (
          <p className="loading" role="status">
            Loading the tables…
          </p>
        )}
      </main>
    </>
  )
}
