/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { ApiError } from '../api/problem'

interface Props {
  error: ApiError
  onRetry?: () => void
}

/** A problem in words: what happened, what to tell the operators, and a way on. */
export function ProblemNotice({ error, onRetry }: Props) {
  const { problem, requestId, retryAfter } = error
  return (
    <div className="problem" role="alert">
      <p className="problem-title">
        {problem.title}
        {problem.status > 0 && <span className="badge">{problem.status}</span>}
      </p>
      {problem.detail !== undefined && problem.detail !== problem.title && <p>{problem.detail}</p>}
      {problem.errors !== undefined && (
        <ul>
          {problem.errors.map((item) => (
            <li key={`${item.pointer} ${item.message}`}>
              {item.pointer !== '' && <code>{item.pointer}</code>} {item.message}
            </li>
          ))}
        </ul>
      )}
      {retryAfter !== null && retryAfter > 0 && <p>The API asks to wait {retryAfter} s.</p>}
      <p className="problem-foot">
        {onRetry && (
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        )}
        {requestId !== null && (
          <span className="muted">
            Request id <code data-testid="request-id">{requestId}</code>
          </span>
        )}
      </p>
    </div>
  )
}
