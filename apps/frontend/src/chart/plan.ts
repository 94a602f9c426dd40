/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { Column, Row, Value } from '../api/types'

export type ColumnKind = 'number' | 'time' | 'category'

/** What a chart of a table draws: one axis, and either several measures or one measure split by a category. */
export interface ChartPlan {
  kind: 'line' | 'bar'
  x: string
  measures: string[]
  split: string | null
}

export interface Choice {
  x?: string | null
  measures?: string[] | null
  split?: string | null
}

export interface Series {
  key: string
  label: string
}

export interface ChartData {
  points: Record<string, Value>[]
  series: Series[]
  /** Series that were left out because a chart with more of them cannot be read. */
  hidden: number
}

export const MAX_SERIES = 8
const DEFAULT_MEASURES = 3
const SCALE = 4

const numeric = /^(u?(tiny|small|big|huge)?int(eger)?\d*|u?int\d+|float\d*|double( precision)?|real|decimal|numeric|number)\b/i
const temporal = /^(date|time|timestamp|datetime)/i
const timeName = /^(year|quarter|month|week|day|date|hour|time|timestamp|period)$|_(date|at|on|month|year|day)$/i
const fraction = /^(float|double|real|decimal|numeric|number)/i
const unit = /_([a-z]{1,3})$/i
const idName = /^id$|_id$/i

export function kindOf(column: Column): ColumnKind {
  if (temporal.test(column.type)) return 'time'
  if (timeName.test(column.name)) return 'time'
  return numeric.test(column.type) ? 'number' : 'category'
}

/** Columns by the part they can play in a chart. */
export function columnsByKind(columns: Column[]): Record<ColumnKind, string[]> {
  const kinds: Record<ColumnKind, string[]> = { number: [], time: [], category: [] }
  for (const column of columns) kinds[kindOf(column)].push(column.name)
  return kinds
}

/** Choose what to draw from the columns' types; what the reader chose goes first where the table has it. */
export function planChart(columns: Column[], rows: Row[], choice: Choice = {}): ChartPlan | null {
  const { number, time, category } = columnsByKind(columns)
  const axes = [...time.filter((name) => isTyped(columns, name)), ...time.filter((name) => !isTyped(columns, name)), ...category]
  const x = choice.x && axes.includes(choice.x) ? choice.x : axes[0]
  if (x === undefined) return null

  const candidates = number.filter((name) => name !== x)
  const asked = (choice.measures ?? []).filter((name) => candidates.includes(name))
  const sensible = candidates.filter((name) => !idName.test(name))
  const measures = asked.length > 0 ? asked : defaults(columns, rows, sensible.length > 0 ? sensible : candidates)
  if (measures.length === 0) return null

  const splits = category.filter((name) => name !== x)
  const needed = hasRepeats(rows, x)
  const wanted = choice.split && splits.includes(choice.split) ? choice.split : needed ? bestSplit(rows, splits) : null
  return {
    kind: time.includes(x) ? 'line' : 'bar',
    x,
    measures: wanted === null ? measures : measures.slice(0, 1),
    split: wanted,
  }
}

/** Turn rows into points in the order of the axis; with a split, each category's value becomes a series. */
export function chartData(rows: Row[], plan: ChartPlan): ChartData {
  const { split, x } = plan
  const measure = plan.measures[0]
  if (split === null || measure === undefined) {
    const series = plan.measures.map((name) => ({ key: name, label: label(name) }))
    return { points: inOrder(rows.filter((row) => row[x] !== null && row[x] !== undefined), plan), series, hidden: 0 }
  }
  const weights = new Map<string, number>()
  for (const row of rows) {
    const name = categoryOf(row[split])
    weights.set(name, (weights.get(name) ?? 0) + Math.abs(Number(row[measure] ?? 0)))
  }
  // The largest categories are drawn, in the order of their names so that colours stay put between loads.
  const kept = [...weights.keys()].sort((a, b) => (weights.get(b) ?? 0) - (weights.get(a) ?? 0)).slice(0, MAX_SERIES).sort()
  const keys = new Map(kept.map((name, index) => [name, `s${index}`]))
  const points = new Map<string, Record<string, Value>>()
  for (const row of rows) {
    const key = keys.get(categoryOf(row[split]))
    const at = row[x]
    if (key === undefined || at === null || at === undefined) continue
    const point = points.get(String(at)) ?? { [x]: at }
    point[key] = row[measure] ?? null
    points.set(String(at), point)
  }
  return {
    points: inOrder([...points.values()], plan),
    series: kept.map((name, index) => ({ key: `s${index}`, label: name })),
    hidden: weights.size - kept.length,
  }
}

/** A sentence for those who cannot see the chart. */
export function describeChart(table: string, plan: ChartPlan, data: ChartData): string {
  const what = plan.split === null
    ? plan.measures.map(label).join(', ')
    : `${label(plan.measures[0] ?? '')} for each ${label(plan.split)}`
  const first = data.points[0]?.[plan.x]
  const last = data.points.at(-1)?.[plan.x]
  const format = axisFormat(data.points.map((point) => point[plan.x] ?? null))
  const range = first === undefined || last === undefined ? '' : `, from ${format(first)} to ${format(last)}`
  return `${plan.kind === 'line' ? 'Line' : 'Bar'} chart of ${label(table)}: ${what} by ${label(plan.x)}, ${data.points.length} points${range}.`
}

export function label(name: string): string {
  const words = name.replaceAll('_', ' ').trim()
  return words.charAt(0).toUpperCase() + words.slice(1)
}

/** Shorten a time to what it says: midnight is a date, the first of a month stays a date. */
export function formatAxis(value: Value): string {
  if (value === null) return ''
  const stamp = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})/.exec(String(value))
  if (stamp) return stamp[2] === '00:00' ? (stamp[1] ?? '') : `${stamp[1]} ${stamp[2]}`
  return String(value)
}

/** How to write the axis: days that are all the first of a month or a year are months or years. */
export function axisFormat(values: Value[]): (value: Value) => string {
  const texts = values.map(formatAxis)
  const length = texts.every((text) => /^\d{4}-01-01$/.test(text)) ? 4 : texts.every((text) => /^\d{4}-\d{2}-01$/.test(text)) ? 7 : Infinity
  return (value) => formatAxis(value).slice(0, length)
}

const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 2 })
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export function formatNumber(value: number): string {
  return plain.format(value)
}

export function formatTick(value: number): string {
  return Math.abs(value) >= 10_000 ? compact.format(value) : plain.format(value)
}

/**
 * What to draw unless asked otherwise: measured values before counts; those that share a unit (`_c`, `_mm`), else those whose
 * values fit one axis with the first of them, as others would flatten it or be flat themselves.
 */
function defaults(columns: Column[], rows: Row[], names: string[]): string[] {
  const measured = names.filter((name) => columns.some((column) => column.name === name && fraction.test(column.type)))
  const pool = measured.length > 0 ? measured : names
  const units = new Map<string, string[]>()
  for (const name of pool) {
    const suffix = unit.exec(name)?.[1]
    if (suffix !== undefined) units.set(suffix, [...(units.get(suffix) ?? []), name])
  }
  const alike = [...units.values()].reduce<string[]>((best, group) => (group.length > best.length ? group : best), [])
  return (alike.length > 1 ? alike : comparable(rows, pool)).slice(0, DEFAULT_MEASURES)
}

function comparable(rows: Row[], names: string[]): string[] {
  const sizes = new Map(names.map((name) => [name, rows.reduce((size, row) => Math.max(size, Math.abs(Number(row[name] ?? 0)) || 0), 0)]))
  const first = sizes.get(names[0] ?? '') ?? 0
  const fits = (size: number) => first === 0 || (size * SCALE >= first && size <= first * SCALE)
  return names.filter((name) => fits(sizes.get(name) ?? 0))
}

function isTyped(columns: Column[], name: string): boolean {
  return columns.some((column) => column.name === name && temporal.test(column.type))
}

function hasRepeats(rows: Row[], x: string): boolean {
  return new Set(rows.map((row) => String(row[x]))).size < rows.length
}

/** The category with the fewest different values, but at least two, makes the chart that reads best. */
function bestSplit(rows: Row[], names: string[]): string | null {
  let best: string | null = null
  let fewest = Infinity
  for (const name of names) {
    const values = new Set(rows.map((row) => categoryOf(row[name]))).size
    if (values > 1 && values < fewest) {
      best = name
      fewest = values
    }
  }
  return best
}

function inOrder<T extends Record<string, Value>>(points: T[], plan: ChartPlan): T[] {
  if (plan.kind === 'bar') return points
  return [...points].sort((a, b) => compare(a[plan.x] ?? null, b[plan.x] ?? null))
}

function compare(a: Value, b: Value): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b
  return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0
}

function categoryOf(value: Value | undefined): string {
  return value === null || value === undefined ? '(none)' : String(value)
}
