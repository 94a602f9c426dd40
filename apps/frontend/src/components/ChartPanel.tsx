/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useMemo, useState } from 'react'
import type { Filter, Table } from '../api/types'
import { chartData, columnsByKind, describeChart, label, planChart, type Choice } from '../chart/plan'
import { useServices } from '../context'
import { formatCount } from '../format'
import { useResource } from '../hooks/useResource'
import { Chart } from './Chart'
import { ProblemNotice } from './ProblemNotice'

/** A chart with more rows than this is slow to draw and hard to read. */
export const CHART_ROWS = 4_000

interface Props {
  table: Table
  filters: Filter[]
}

export function ChartPanel({ table, filters }: Props) {
  const { client } = useServices()
  const [choice, setChoice] = useState<Choice>({})
  // The order of the rows decides which of them are drawn where there are too many for one chart.
  const axis = planChart(table.columns, [], choice)
  const orderBy = axis?.kind === 'line' ? axis.x : null
  const { data, error, loading, reload } = useResource(
    JSON.stringify([table.name, table.version, filters, orderBy]),
    (signal) => client.manyRows(table.name, { orderBy, filters }, CHART_ROWS, signal),
  )
  const columns = useMemo(() => (data && data.columns.length > 0 ? data.columns : table.columns), [data, table.columns])
  const plan = useMemo(() => (data ? planChart(columns, data.rows, choice) : null), [columns, data, choice])
  const drawn = useMemo(() => (data && plan ? chartData(data.rows, plan) : null), [data, plan])

  return (
    <section className="card" aria-label="Chart" aria-busy={loading}>
      {error !== null ? (
        <ProblemNotice error={error} onRetry={reload} />
      ) : data === null ? (
        <p className="loading" role="status">
          Loading the chart…
        </p>
      ) : data.rows.length === 0 ? (
        <p className="empty">{filters.length > 0 ? 'No row fits the filters.' : 'This table has no rows yet.'}</p>
      ) : plan === null || drawn === null ? (
        <p className="empty">This table has no numbers to draw over a time or a category.</p>
      ) : (
        <>
          <Controls columns={columnsByKind(columns)} plan={plan} onChange={setChoice} />
          <Chart plan={plan} data={drawn} description={describeChart(table.name, plan, drawn)} />
          <p className="muted note">
            {data.total > data.rows.length &&
              `The first ${formatCount(data.rows.length)} of ${formatCount(data.total)} rows are drawn; a filter narrows them. `}
            {drawn.hidden > 0 && `The ${drawn.series.length} largest of ${drawn.series.length + drawn.hidden} categories are drawn.`}
          </p>
        </>
      )}
    </section>
  )
}

interface ControlsProps {
  columns: ReturnType<typeof columnsByKind>
  plan: NonNullable<ReturnType<typeof planChart>>
  onChange: (choice: Choice) => void
}

function Controls({ columns, plan, onChange }: ControlsProps) {
  const axes = [...columns.time, ...columns.category]
  const splits = columns.category.filter((name) => name !== plan.x)
  const single = plan.split !== null

  function toggle(name: string): void {
    if (single) onChange({ ...plan, measures: [name] })
    else if (!plan.measures.includes(name)) onChange({ ...plan, measures: [...plan.measures, name] })
    else if (plan.measures.length > 1) onChange({ ...plan, measures: plan.measures.filter((other) => other !== name) })
  }

  return (
    <div className="controls">
      <fieldset>
        <legend>Show</legend>
        {columns.number.map((name) => (
          <label key={name} className="chip">
            <input
              type={single ? 'radio' : 'checkbox'}
              checked={plan.measures.includes(name)}
              onChange={() => {
                toggle(name)
              }}
            />
            {label(name)}
          </label>
        ))}
      </fieldset>
      {axes.length > 1 && (
        <label>
          By{' '}
          <select
            value={plan.x}
            onChange={(event) => {
              onChange({ ...plan, x: event.target.value, split: null })
            }}
          >
            {axes.map((name) => (
              <option key={name} value={name}>
                {label(name)}
              </option>
            ))}
          </select>
        </label>
      )}
      {splits.length > 0 && (
        <label>
          For each{' '}
          <select
            value={plan.split ?? ''}
            onChange={(event) => {
              onChange({ ...plan, split: event.target.value })
            }}
          >
            <option value="">–</option>
            {splits.map((name) => (
              <option key={name} value={name}>
                {label(name)}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  )
}
