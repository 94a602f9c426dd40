/* SPDX-License-Identifier: GPL-3.0-or-later */
import { describe, expect, it } from 'vitest'
import type { Column, Row } from '../src/api/types'
import { axisFormat, chartData, describeChart, formatAxis, formatTick, kindOf, MAX_SERIES, planChart } from '../src/chart/plan'

const weather: Column[] = [
  { name: 'location', type: 'VARCHAR' },
  { name: 'month', type: 'DATE' },
  { name: 'station_id', type: 'INTEGER' },
  { name: 'avg_temp_max', type: 'DOUBLE' },
  { name: 'avg_temp_min', type: 'DOUBLE' },
  { name: 'precipitation', type: 'DECIMAL(18,3)' },
  { name: 'wind', type: 'FLOAT' },
]

function row(month: string, location = 'Seattle', high = 1): Row {
  return { location, month, station_id: 7, avg_temp_max: high, avg_temp_min: 1, precipitation: 2, wind: 3 }
}

describe('kindOf', () => {
  it.each([
    ['month', 'DATE', 'time'],
    ['at', 'TIMESTAMP WITH TIME ZONE', 'time'],
    ['loaded_at', 'VARCHAR', 'time'],
    ['year', 'BIGINT', 'time'],
    ['rain', 'double', 'number'],
    ['rain', 'int64', 'number'],
    ['rain', 'UINTEGER', 'number'],
    ['rain', 'DECIMAL(10,2)', 'number'],
    ['source', 'VARCHAR', 'category'],
    ['wet', 'BOOLEAN', 'category'],
    ['gap', 'INTERVAL', 'category'],
  ])('%s %s is a %s', (name, type, kind) => {
    expect(kindOf({ name, type })).toBe(kind)
  })
})

describe('planChart', () => {
  it('draws the first measures over time, and no identifiers', () => {
    expect(planChart(weather, [row('2012-01-01'), row('2012-02-01')])).toEqual({
      kind: 'line',
      x: 'month',
      measures: ['avg_temp_max', 'avg_temp_min', 'precipitation'],
      split: null,
    })
  })

  it('splits one measure by category where a time comes more than once', () => {
    const rows = [row('2012-01-01'), row('2012-01-01', 'New York')]
    expect(planChart(weather, rows)).toMatchObject({ measures: ['avg_temp_max'], split: 'location' })
  })

  it('leaves out measures of another scale until they are asked for', () => {
    const rows = [{ ...row('2012-01-01', 'Seattle', 30), avg_temp_min: 12, precipitation: 160, wind: 5 }]
    expect(planChart(weather, rows)?.measures).toEqual(['avg_temp_max', 'avg_temp_min'])
    expect(planChart(weather, rows, { measures: ['wind', 'precipitation'] })?.measures).toEqual(['wind', 'precipitation'])
  })

  it('draws measured values of one unit before counts', () => {
    const columns = [
      ['month', 'DATE'],
      ['days', 'BIGINT'],
      ['precipitation_mm', 'DOUBLE'],
      ['temp_max_c', 'DOUBLE'],
      ['temp_min_c', 'DOUBLE'],
      ['temp_mean_c', 'DOUBLE'],
      ['wind_mean_ms', 'DOUBLE'],
      ['rain_days', 'BIGINT'],
    ].map(([name = '', type = '']) => ({ name, type }))
    expect(planChart(columns, [])?.measures).toEqual(['temp_max_c', 'temp_min_c', 'temp_mean_c'])
  })

  it('prefers a typed time over one known by its name only', () => {
    const columns = [{ name: 'year', type: 'INTEGER' }, { name: 'sampled', type: 'TIMESTAMP' }, { name: 'v', type: 'REAL' }]
    expect(planChart(columns, [])?.x).toBe('sampled')
  })

  it('draws bars over a category', () => {
    const columns = [{ name: 'source', type: 'VARCHAR' }, { name: 'energy', type: 'BIGINT' }]
    expect(planChart(columns, [])).toEqual({ kind: 'bar', x: 'source', measures: ['energy'], split: null })
  })

  it('follows the choice where the table has it and forgets it where not', () => {
    const rows = [row('2012-01-01')]
    expect(planChart(weather, rows, { x: 'location', measures: ['wind'], split: '' })).toMatchObject({
      kind: 'bar',
      x: 'location',
      measures: ['wind'],
    })
    expect(planChart(weather, rows, { x: 'gone', measures: ['gone'], split: 'gone' })).toEqual(planChart(weather, rows))
  })

  it('says when there is nothing to draw', () => {
    expect(planChart([], [])).toBeNull()
    expect(planChart([{ name: 'name', type: 'VARCHAR' }], [])).toBeNull()
    expect(planChart([{ name: 'v', type: 'DOUBLE' }], [])).toBeNull()
  })
})

describe('chartData', () => {
  it('orders points by time and leaves out rows without one', () => {
    const rows = [row('2012-03-01'), { ...row('x'), month: null }, row('2012-01-01')]
    const plan = planChart(weather, [])
    if (plan === null) throw new Error('no plan')
    const data = chartData(rows, plan)
    expect(data.points.map((point) => point.month)).toEqual(['2012-01-01', '2012-03-01'])
    expect(data.series.map(({ label }) => label)).toEqual(['Avg temp max', 'Avg temp min', 'Precipitation'])
    expect(describeChart('weather_monthly', plan, data)).toBe(
      'Line chart of Weather monthly: Avg temp max, Avg temp min, Precipitation by Month, 2 points, from 2012-01 to 2012-03.',
    )
  })

  it('makes a series of each category', () => {
    const rows = [row('2012-01-01', 'Seattle', 4), row('2012-01-01', 'New York', 9), row('2012-02-01', 'Seattle', 5)]
    const plan = planChart(weather, rows)
    if (plan === null) throw new Error('no plan')
    const data = chartData(rows, plan)
    expect(data.series.map(({ label }) => label)).toEqual(['New York', 'Seattle'])
    expect(data.points).toEqual([
      { month: '2012-01-01', s0: 9, s1: 4 },
      { month: '2012-02-01', s1: 5 },
    ])
    expect(describeChart('w', plan, data)).toContain('Avg temp max for each Location by Month')
  })

  it('keeps the largest categories of many and tells how many it hides', () => {
    const rows = Array.from({ length: 12 }, (_, index) => row('2012-01-01', `p${String(index).padStart(2, '0')}`, index))
    const plan = planChart(weather, rows)
    if (plan === null) throw new Error('no plan')
    const data = chartData(rows, plan)
    expect(data.series).toHaveLength(MAX_SERIES)
    expect(data.series[0]?.label).toBe('p04')
    expect(data.hidden).toBe(4)
  })
})

describe('formats', () => {
  it('shortens times and large numbers', () => {
    expect(formatAxis('2012-01-01T00:00:00')).toBe('2012-01-01')
    expect(formatAxis('2012-01-01T06:30:00Z')).toBe('2012-01-01 06:30')
    expect(formatAxis(2012)).toBe('2012')
    expect(axisFormat(['2012-01-01', '2013-01-01'])('2013-01-01')).toBe('2013')
    expect(axisFormat(['2012-01-01', '2012-02-01'])('2012-02-01')).toBe('2012-02')
    expect(axisFormat(['2012-01-01', '2012-02-03'])('2012-01-01')).toBe('2012-01-01')
    expect(formatTick(1_250_000)).toBe('1.3M')
  })
})
