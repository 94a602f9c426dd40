/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { FormEvent } from 'react'
import type { Column, Filter, FilterOperator } from '../api/types'
import { label } from '../chart/plan'

const operators: Record<FilterOperator, string> = {
  eq: '=',
  ne: '≠',
  lt: '<',
  le: '≤',
  gt: '>',
  ge: '≥',
  contains: 'contains',
}

interface Props {
  columns: Column[]
  filters: Filter[]
  onChange: (filters: Filter[]) => void
}

export function FilterBar({ columns, filters, onChange }: Props) {
  function add(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault()
    const form = event.currentTarget
    const fields = new FormData(form)
    const value = String(fields.get('value')).trim()
    if (value === '') return
    onChange([...filters, { column: String(fields.get('column')), operator: fields.get('operator') as FilterOperator, value }])
    form.reset()
  }

  return (
    <div className="filters">
      <form onSubmit={add} aria-label="Filter rows">
        <select name="column" aria-label="Column to filter by">
          {columns.map(({ name }) => (
            <option key={name} value={name}>
              {label(name)}
            </option>
          ))}
        </select>
        <select name="operator" aria-label="Comparison">
          {Object.entries(operators).map(([name, sign]) => (
            <option key={name} value={name}>
              {sign}
            </option>
          ))}
        </select>
        <input name="value" aria-label="Value" placeholder="Value" autoComplete="off" />
        <button type="submit">Filter</button>
      </form>
      {filters.length > 0 && (
        <ul className="chips" aria-label="Active filters">
          {filters.map((filter, index) => (
            <li key={`${filter.column} ${filter.operator} ${filter.value}`}>
              <button
                type="button"
                className="chip"
                aria-label={`Remove the filter ${filter.column} ${operators[filter.operator]} ${filter.value}`}
                onClick={() => {
                  onChange(filters.filter((_, at) => at !== index))
                }}
              >
                {label(filter.column)} {operators[filter.operator]} {filter.value} <span aria-hidden="true">×</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}
