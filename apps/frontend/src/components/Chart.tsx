/* SPDX-License-Identifier: GPL-3.0-or-later */
import { Bar, BarChart, CartesianGrid, Legend, Line, LineChart, ResponsiveContainer, Tooltip, XAxis, YAxis } from 'recharts'
import type { Value } from '../api/types'
import { axisFormat, formatNumber, formatTick, type ChartData, type ChartPlan } from '../chart/plan'

interface Props {
  plan: ChartPlan
  data: ChartData
  /** What the chart shows, for those who cannot see it. */
  description: string
}

type Point = Record<string, Value>

export function Chart({ plan, data, description }: Props) {
  const Frame = plan.kind === 'line' ? LineChart : BarChart
  const format = axisFormat(data.points.map((point) => point[plan.x] ?? null))
  return (
    <div
      className="chart"
      role="img"
      aria-label={description}
      data-testid="chart"
      data-points={data.points.length}
      data-series={data.series.length}
    >
      <ResponsiveContainer width="100%" height="100%">
        {/* The container is one image to assistive techniques, and the table below has the values: no second focus. */}
        <Frame data={data.points} margin={{ top: 8, right: 12, bottom: 0, left: 0 }} accessibilityLayer={false}>
          <CartesianGrid stroke="var(--line)" vertical={false} />
          <XAxis
            dataKey={(point: Point) => format(point[plan.x] ?? null)}
            stroke="var(--line)"
            tick={{ fill: 'var(--muted)', fontSize: 12 }}
            tickLine={false}
            minTickGap={28}
          />
          <YAxis
            stroke="transparent"
            tick={{ fill: 'var(--muted)', fontSize: 12 }}
            tickFormatter={formatTick}
            width={56}
          />
          <Tooltip
            formatter={(value) => (typeof value === 'number' ? formatNumber(value) : value)}
            contentStyle={{ background: 'var(--card)', border: '1px solid var(--line)', borderRadius: 8, color: 'var(--text)' }}
            labelStyle={{ color: 'var(--muted)' }}
            cursor={plan.kind === 'bar' ? { fill: 'var(--hover)' } : { stroke: 'var(--muted)' }}
            isAnimationActive={false}
          />
          {data.series.length > 1 && <Legend iconType="plainline" wrapperStyle={{ fontSize: 13 }} />}
          {data.series.map(({ key, label }, index) => {
            const color = `var(--series-${index % 8})`
            const common = { name: label, dataKey: (point: Point) => toNumber(point[key]), isAnimationActive: false }
            return plan.kind === 'line' ? (
              <Line key={key} {...common} type="linear" stroke={color} strokeWidth={2} dot={false} activeDot={{ r: 4 }} />
            ) : (
              <Bar key={key} {...common} fill={color} radius={[4, 4, 0, 0]} maxBarSize={48} />
            )
          })}
        </Frame>
      </ResponsiveContainer>
    </div>
  )
}

/** Decimals may come as text so that they keep their digits; a chart needs numbers. */
function toNumber(value: Value | undefined): number | null {
  if (typeof value === 'number') return value
  if (typeof value !== 'string' || value.trim() === '') return null
  const number = Number(value)
  return Number.isFinite(number) ? number : null
}
