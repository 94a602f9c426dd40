/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useId, useState, type FormEvent } from 'react'
import { ApiError, titleOf } from '../api/problem'
import { useServices } from '../context'
import { ProblemNotice } from './ProblemNotice'

interface Props {
  /** Why the form is there. */
  reason?: string
  /** Leave the form without signing in, where there is something to see without. */
  onCancel?: () => void
}

export function LoginForm({ onCancel, reason }: Props) {
  const { client, session } = useServices()
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<ApiError | null>(null)
  const id = useId()

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault()
    const fields = new FormData(event.currentTarget)
    setBusy(true)
    setError(null)
    try {
      session.set(await client.signIn(String(fields.get('username')), String(fields.get('password'))))
    } catch (reason) {
      setError(reason instanceof ApiError ? wrongCredentials(reason) : null)
    } finally {
      setBusy(false)
    }
  }

  return (
    <form className="card login" aria-labelledby={`${id}-title`} onSubmit={(event) => void submit(event)}>
      <h2 id={`${id}-title`}>Sign in</h2>
      {reason !== undefined && <p className="muted">{reason}</p>}
      <label>
        User name
        <input name="username" autoComplete="username" autoCapitalize="none" spellCheck={false} required />
      </label>
      <label>
        Password
        <input name="password" type="password" autoComplete="current-password" required />
      </label>
      {error && <ProblemNotice error={error} />}
      <button type="submit" className="primary" disabled={busy}>
        {busy ? 'Signing in…' : 'Sign in'}
      </button>
      {onCancel && (
        <button type="button" onClick={onCancel}>
          Back
        </button>
      )}
    </form>
  )
}

function wrongCredentials(error: ApiError): ApiError {
  if (error.status !== 401) return error
  const detail = error.problem.detail ?? titleOf(401)
  return new ApiError({ ...error.problem, title: 'Sign-in failed', detail }, error.requestId, error.retryAfter)
}
