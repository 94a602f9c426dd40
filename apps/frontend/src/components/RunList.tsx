/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { FeedState } from '../api/runfeed'
import { useSignedIn } from '../context'
import { formatDuration, formatTime } from '../format'
import { useRuns } from '../hooks/useRuns'
import { ProblemNotice } from './ProblemNotice'

const feeds: Record<FeedState, string> = {
  connecting: 'connecting',
  live: 'live',
  waiting: 'reconnecting',
  refused: 'no live updates',
  stopped: 'stopped',
}

const SHOWN = 12

interface Props {
  /** Called when the tables may have changed. */
  onNews: () => void
  onSignIn: () => void
}

export function RunList({ onNews, onSignIn }: Props) {
  const { error, feed, reload, runs } = useRuns(onNews)
  const signedIn = useSignedIn()
  return (
    <section className="card" aria-labelledby="runs-title">
      <h2 id="runs-title">
        Pipeline runs{' '}
        {signedIn && (
        <span className="feed muted" data-testid="feed-state" data-state={feed}>
          <span className={`dot dot-${feed === 'live' ? 'ok' : 'unknown'}`} aria-hidden="true" />
          {feeds[feed]}
        </span>
        )}
      </h2>
      {!signedIn && (
        <p className="muted">
          <button type="button" className="link" onClick={onSignIn}>
            Sign in
          </button>{' '}
          to see them as they happen.
        </p>
      )}
      {error !== null && <ProblemNotice error={error} onRetry={reload} />}
      {signedIn && runs === null && error === null && <p className="muted">Loading the runs…</p>}
      {runs?.length === 0 && <p className="muted">No run yet. The scheduler starts one every night at 02:00.</p>}
      {runs !== null && runs.length > 0 && (
        <ul className="runs" aria-live="polite" data-testid="runs">
          {runs.slice(0, SHOWN).map((run) => {
            const duration = formatDuration(run.startedAt, run.finishedAt)
            return (
              <li key={run.id}>
                <span className="run-name" title={run.id}>
                  {run.tables.length > 0 ? run.tables.join(', ') : 'All tables'}
                </span>
                <span className={`badge badge-${tone(run.status)}`}>{run.status}</span>
                <span className="muted run-time">
                  {[formatTime(run.startedAt ?? run.queuedAt), duration, run.trigger].filter(Boolean).join(' · ')}
                </span>
                {run.detail !== null && <span className="muted run-detail">{run.detail}</span>}
              </li>
            )
          })}
        </ul>
      )}
    </section>
  )
}

function tone(status: string): 'good' | 'bad' | 'busy' {
  if (/^(succe|ok|done|complete|finish)/i.test(status)) return 'good'
  return /^(fail|error|reject|abort|cancel)/i.test(status) ? 'bad' : 'busy'
}
