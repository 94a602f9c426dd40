/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect, useState } from 'react'
import { ApiStatus } from './components/ApiStatus'
import { Dashboard } from './components/Dashboard'
import { LoginForm } from './components/LoginForm'
import { ProblemNotice } from './components/ProblemNotice'
import { useServices, useSignedIn } from './context'
import { useResource } from './hooks/useResource'

const POLL = 15_000

export function App() {
  const { client, session } = useServices()
  const signedIn = useSignedIn()
  const [asked, setAsked] = useState(false)
  const { data, error, reload } = useResource('tables', (signal) => client.tables(signal))

  const refused = error?.status === 401
  // Without a token the API lists the open tables only, which may be none.
  const closed = data?.length === 0

  useEffect(() => {
    if (signedIn) setAsked(false)
  }, [signedIn])

  // The list of tables is also the probe of the API's state.
  useEffect(() => {
    if (refused) return
    const timer = setInterval(() => {
      if (!document.hidden) reload()
    }, POLL)
    return () => {
      clearInterval(timer)
    }
  }, [reload, refused])

  function ask(): void {
    setAsked(true)
  }

  return (
    <>
      <header className="top">
        <div className="brand">
          <img src="/favicon.svg" width="32" height="32" alt="" />
          <h1>Nova Corrente</h1>
        </div>
        <div className="top-right">
          <ApiStatus />
          {signedIn ? (
            <button
              type="button"
              onClick={() => {
                session.set(null)
              }}
            >
              Sign out
            </button>
          ) : (
            !(asked || refused || closed) && (
              <button
                type="button"
                onClick={ask}
              >
                Sign in
              </button>
            )
          )}
        </div>
      </header>
      <main>
        {!signedIn && (asked || refused || closed) ? (
          <LoginForm
            reason={closed ? 'There is no table that is open to everyone.' : undefined}
            onCancel={
              refused || closed
                ? undefined
                : () => {
                    setAsked(false)
                  }
            }
          />
        ) : data !== null ? (
          <Dashboard tables={data} onNews={reload} onSignIn={ask} />
        ) : error !== null && !refused ? (
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
