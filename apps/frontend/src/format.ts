/* SPDX-License-Identifier: GPL-3.0-or-later */
const count = new Intl.NumberFormat('en')
const time = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' })

export function formatCount(value: number): string {
  return count.format(value)
}

export function formatTime(value: string | null): string {
  if (value === null) return ''
  const at = new Date(value)
  return Number.isNaN(at.getTime()) ? value : time.format(at)
}

export function formatDuration(from: string | null, to: string | null): string | null {
  if (from === null || to === null) return null
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000
  if (!Number.isFinite(seconds) || seconds < 0) return null
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
}
