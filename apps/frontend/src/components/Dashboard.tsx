/* SPDX-License-Identifier: GPL-3.0-or-later */
import { useEffect, useState } from 'react'
import type { Filter, Table } from '../api/types'
import { label } from '../chart/plan'
import { formatCount, formatTime } from '../format'
import { ChartPanel } from './ChartPanel'
import { ErrorBoundary } from './ErrorBoundary'
import { FilterBar } from './FilterBar'
import { RunList } from './RunList'
import { TableView } from './TableView'

export const DEFAULT_TABLE = 'weather_monthly'

interface Props {
  tables: Table[]
  onNews: () => void
  onSignIn: () => void
}

export function Dashboard({ tables, onNews, onSignIn }: Props) {
  const [wanted, setWanted] = useHash()
  const table = tables.find(({ name }) => name === wanted) ?? tables.find(({ name }) => name === DEFAULT_TABLE) ?? tables[0]

  return (
    <div className="layout">
      <aside>
        <nav className="card" aria-labelledby="tables-title">
          <h2 id="tables-title">Gold tables</h2>
          {tables.length === 0 ? (
            <p className="muted">No table has been loaded yet. The first run of the pipeline brings them.</p>
          ) : (
            <ul className="tables">
              {tables.map(({ name, rows }) => (
                <li key={name}>
                  <button
                    type="button"
                    aria-current={name === table?.name ? 'true' : undefined}
                    onClick={() => {
                      setWanted(name)
                    }}
                  >
                    <span>{label(name)}</span>
                    {rows !== null && <span className="muted">{formatCount(rows)}</span>}
                  </button>
                </li>
              ))}
            </ul>
          )}
        </nav>
        <ErrorBoundary what="The list of runs">
          <RunList onNews={onNews} onSignIn={onSignIn} />
        </ErrorBoundary>
      </aside>
      <div className="content">{table !== undefined && <TablePanels key={table.name} table={table} />}</div>
    </div>
  )
}

function TablePanels({ table }: { table: Table }) {
  const [filters, setFilters] = useState<Filter[]>([])
  return (
    <>
      <section className="headline" aria-label="About this table">
        <h2>{label(table.name)}</h2>
        <p className="muted">
          <code>{table.name}</code>
          {table.rows !== null && <> · {formatCount(table.rows)} rows</>}
          {table.columns.length > 0 && <> · {table.columns.length} columns</>}
          {table.builtAt !== null && <> · loaded {formatTime(table.builtAt)}</>}
        </p>
        {table.columns.length > 0 && <FilterBar columns={table.columns} filters={filters} onChange={setFilters} />}
      </section>
      <ErrorBoundary what="The chart">
        <ChartPanel table={table} filters={filters} />
      </ErrorBoundary>
      <ErrorBoundary what="The table">
        {/* A new filter starts at the first page. */}
        <TableView key={JSON.stringify(filters)} table={table} filters={filters} />
      </ErrorBoundary>
    </>
  )
}

/** The chosen table is part of the address, so that a view can be shared. */
function useHash(): [string, (value: string) => void] {
  const [hash, setHash] = useState(readHash)
  useEffect(() => {
    const changed = () => {
      setHash(readHash())
    }
    globalThis.addEventListener('hashchange', changed)
    return () => {
      globalThis.removeEventListener('hashchange', changed)
    }
  }, [])
  return [
    hash,
    (value) => {
      globalThis.location.hash = encodeURIComponent(value)
    },
  ]
}

function readHash(): string {
  try {
    return decodeURIComponent(globalThis.location.hash.slice(1))
  } catch {
    return ''
  }
}
