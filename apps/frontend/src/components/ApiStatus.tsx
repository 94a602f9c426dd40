/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useHealth } from '../context'
import type { ApiState } from '../api/health'

const words: Record<ApiState, string> = { unknown: 'API …', ok: 'API ok', degraded: 'API degraded', offline: 'API offline' }

export function ApiStatus() {
  const { reason, state, version } = useHealth()
  return (
    <span className="status" role="status" data-testid="api-state" data-state={state} title={reason}>
      <span className={`dot dot-${state}`} aria-hidden="true" />
      {words[state]}
      {version !== null && <span className="muted"> · {version}</span>}
    </span>
  )
}
