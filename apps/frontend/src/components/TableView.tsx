/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useState } from 'react'
import type { Filter, Table, Value } from '../api/types'
import { formatAxis, formatNumber, kindOf, label } from '../chart/plan'
import { useServices } from '../context'
import { formatCount } from '../format'
import { useResource } from '../hooks/useResource'
import { ProblemNotice } from './ProblemNotice'

export const PAGE_ROWS = 20

interface Props {
  table: Table
  filters: Filter[]
}

interface Order {
  column: string
  descending: boolean
}

export function TableView({ table, filters }: Props) {
  const { client } = useServices()
  const [offset, setOffset] = useState(0)
  const [order, setOrder] = useState<Order | null>(null)
  const { data, error, loading, reload } = useResource(
    JSON.stringify([table.name, table.version, filters, order, offset]),
    (signal) =>
      client.rows(
        table.name,
        { limit: PAGE_ROWS, offset, orderBy: order?.column, descending: order?.descending, filters },
        signal,
      ),
  )

  function orderBy(column: string): void {
    setOffset(0)
    setOrder((before) => {
      if (before?.column !== column) return { column, descending: false }
      return before.descending ? null : { column, descending: true }
    })
  }

  if (error !== null) {
    return (
      <section className="card" aria-label="Rows">
        <ProblemNotice error={error} onRetry={reload} />
      </section>
    )
  }
  if (data === null || data.rows.length === 0) {
    return (
      <section className="card" aria-label="Rows">
        <p className={data === null ? 'loading' : 'empty'} role="status">
          {data === null ? 'Loading the rows…' : 'No rows.'}
        </p>
      </section>
    )
  }

  const columns = data.columns.length > 0 ? data.columns : table.columns
  const last = offset + data.rows.length
  return (
    <section className="card flush" aria-label="Rows" aria-busy={loading}>
      {/* A region that scrolls must be reachable with the keyboard. */}
      <div className="scroll" role="region" aria-label={`Rows of ${label(table.name)}`} tabIndex={0}>
        <table data-testid="rows">
          <thead>
            <tr>
              {columns.map((column) => {
                const active = order?.column === column.name ? order : null
                return (
                  <th
                    key={column.name}
                    scope="col"
                    className={kindOf(column) === 'number' ? 'number' : undefined}
                    aria-sort={active === null ? 'none' : active.descending ? 'descending' : 'ascending'}
                  >
                    <button
                      type="button"
                      onClick={() => {
                        orderBy(column.name)
                      }}
                    >
                      {label(column.name)}
                      <span aria-hidden="true">{active === null ? '' : active.descending ? ' ↓' : ' ↑'}</span>
                    </button>
                  </th>
                )
              })}
            </tr>
          </thead>
          <tbody>
            {data.rows.map((row, index) => (
              <tr key={offset + index}>
                {columns.map((column) => (
                  <td key={column.name} className={kindOf(column) === 'number' ? 'number' : undefined}>
                    {show(row[column.name] ?? null, kindOf(column) === 'number')}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <nav className="pages" aria-label="Pages">
        <button
          type="button"
          disabled={offset === 0}
          onClick={() => {
            setOffset(Math.max(0, offset - PAGE_ROWS))
          }}
        >
          Previous
        </button>
        <span className="muted" role="status">
          {formatCount(offset + 1)}–{formatCount(last)} of {formatCount(data.total)}
        </span>
        <button
          type="button"
          disabled={last >= data.total}
          onClick={() => {
            setOffset(offset + PAGE_ROWS)
          }}
        >
          Next
        </button>
      </nav>
    </section>
  )
}

function show(value: Value, isMeasure: boolean): string {
  if (value === null) return '–'
  if (typeof value === 'number') return isMeasure ? formatNumber(value) : String(value)
  return typeof value === 'string' ? formatAxis(value) : String(value)
}
