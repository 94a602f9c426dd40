/* SPDX-License-Identifier: GPL-3.0-or-later */
import { act, render, screen, waitFor, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { App } from '../src/App'
import { ErrorBoundary } from '../src/components/ErrorBoundary'
import { createServices } from '../src/context'
import { FakeSocket, fakeFetch, json, problem, withServices } from './fakes'

const columns = [
  { name: 'month', type: 'DATE' },
  { name: 'avg_temp_max', type: 'DOUBLE' },
  { name: 'precipitation', type: 'DOUBLE' },
]
const months = Array.from({ length: 48 }, (_, index) => ({
  month: `${2012 + Math.floor(index / 12)}-${String((index % 12) + 1).padStart(2, '0')}-01`,
  avg_temp_max: index,
  precipitation: index / 2,
}))
const tables = [
  { name: 'employment', columns, rows: 0 },
  { name: 'weather_monthly', columns, rows: months.length },
]

function signedIn(token = 't0'): void {
  sessionStorage.setItem('novacorrente.session', JSON.stringify({ token, expiresAt: Date.now() + 60_000 }))
}

function page(url: URL): Response {
  const limit = Number(url.searchParams.get('limit'))
  const offset = Number(url.searchParams.get('offset'))
  return json({ columns, rows: months.slice(offset, offset + limit), total: months.length })
}

const routes = {
  'GET /api/v1/tables': () => json({ tables }, { 'x-platform-version': '1.0.0' }),
  'GET /api/v1/tables/weather_monthly': page,
  'GET /api/v1/tables/employment': () => json({ columns, rows: [], total: 0 }),
  'GET /api/v1/runs': () => json({ runs: [{ run_id: 'r1', tables: ['weather_monthly'], status: 'succeeded', started_at: '2026-01-01T02:00:00Z' }] }),
}

beforeEach(() => {
  FakeSocket.install()
})

describe('the dashboard', () => {
  it('shows the default table as a chart and as rows, the state of the API and the runs', async () => {
    signedIn()
    const fetch = fakeFetch(routes)
    render(withServices(<App />))
    const chart = await screen.findByTestId('chart')
    expect(chart.dataset.points).toBe('48')
    expect(chart).toHaveProperty('role', 'img')
    expect(chart.getAttribute('aria-label')).toContain('Line chart of Weather monthly')
    await waitFor(() => {
      expect(chart.querySelectorAll('path.recharts-line-curve')).toHaveLength(2)
    })
    expect(screen.getByTestId('api-state').dataset.state).toBe('ok')
    expect(screen.getByTestId('api-state').textContent).toContain('1.0.0')
    expect(await screen.findByText('1–20 of 48')).toBeTruthy()
    const asked = fetch.mock.calls.length
    act(() => {
      FakeSocket.last.onopen?.()
      FakeSocket.last.say({ type: 'run', run_id: 'r2', table: null, step: null, status: 'started', ts: '2026-01-02T02:00:00Z' })
    })
    const runs = within(screen.getByTestId('runs')).getAllByRole('listitem')
    expect(runs.map((item) => item.textContent)).toEqual([expect.stringMatching(/All tables.*running/), expect.stringMatching(/weather_monthly.*succeeded/)])
    expect(fetch).toHaveBeenCalledTimes(asked)
    act(() => {
      FakeSocket.last.say({ type: 'run', run_id: 'r2', table: null, step: null, status: 'succeeded', ts: '2026-01-02T02:00:09Z' })
    })
    await waitFor(() => {
      expect(fetch).toHaveBeenCalledTimes(asked + 1)
    })
  })

  it('pages, orders and filters through the API', async () => {
    const user = userEvent.setup()
    const fetch = fakeFetch(routes)
    render(withServices(<App />))
    await user.click(await screen.findByRole('button', { name: 'Next' }))
    expect(await screen.findByText('21–40 of 48')).toBeTruthy()
    await user.click(screen.getByRole('button', { name: 'Precipitation' }))
    await user.click(await screen.findByRole('button', { name: /Precipitation/ }))
    await user.type(screen.getByRole('textbox', { name: 'Value' }), '2012-06-01{Enter}')
    expect(await screen.findByRole('button', { name: 'Remove the filter month = 2012-06-01' })).toBeTruthy()
    const asked = fetch.mock.calls.map(([url]) => decodeURIComponent(String(url)))
    expect(asked).toContain('/api/v1/tables/weather_monthly?limit=20&offset=0&order_by=precipitation')
    expect(asked).toContain('/api/v1/tables/weather_monthly?limit=20&offset=0&order_by=-precipitation')
    expect(asked).toContain('/api/v1/tables/weather_monthly?limit=20&offset=0&filter=month:eq:2012-06-01')
  })

  it('asks for nothing that needs an account before there is one', async () => {
    const user = userEvent.setup()
    const fetch = fakeFetch(routes)
    render(withServices(<App />))
    await screen.findByTestId('chart')
    expect(FakeSocket.all).toHaveLength(0)
    expect(fetch.mock.calls.some(([url]) => String(url).includes('/runs'))).toBe(false)
    await user.click(within(screen.getByRole('region', { name: 'Pipeline runs' })).getByRole('button', { name: 'Sign in' }))
    expect(screen.getByRole('form', { name: 'Sign in' })).toBeTruthy()
    await user.click(screen.getByRole('button', { name: 'Back' }))
    expect(await screen.findByTestId('chart')).toBeTruthy()
  })

  it('offers to sign in when no table is open to everyone', async () => {
    fakeFetch({ 'GET /api/v1/tables': () => json({ tables: [] }) })
    render(withServices(<App />))
    expect((await screen.findByRole('form', { name: 'Sign in' })).textContent).toContain('no table that is open to everyone')
  })

  it('says that a table is empty', async () => {
    const user = userEvent.setup()
    fakeFetch(routes)
    render(withServices(<App />))
    await user.click(await screen.findByRole('button', { name: /Employment/ }))
    expect(await screen.findByText('This table has no rows yet.')).toBeTruthy()
    expect(screen.queryByTestId('chart')).toBeNull()
  })

  it('shows a problem with its request id and tries again', async () => {
    const user = userEvent.setup()
    let broken = true
    fakeFetch({
      ...routes,
      'GET /api/v1/tables': () =>
        broken ? problem(500, { title: 'Storage is away', detail: 'gold cannot be read' }, { 'x-request-id': 'r-9' }) : json({ tables }),
    })
    render(withServices(<App />))
    const alert = await screen.findByRole('alert')
    expect(alert.textContent).toContain('Storage is away')
    expect(alert.textContent).toContain('r-9')
    expect(screen.getByTestId('api-state').dataset.state).toBe('degraded')
    broken = false
    await user.click(within(alert).getByRole('button', { name: 'Try again' }))
    expect(await screen.findByTestId('chart')).toBeTruthy()
  })
})

describe('signing in', () => {
  function guarded(accepted: string) {
    const authorised = (route: (url: URL) => Response) => (url: URL, init: RequestInit) =>
      new Headers(init.headers).get('authorization') === `Bearer ${accepted}` ? route(url) : problem(401, { title: 'Unauthorized' })
    return {
      'GET /api/v1/tables': authorised(routes['GET /api/v1/tables']),
      'GET /api/v1/tables/weather_monthly': authorised(page),
      'GET /api/v1/runs': authorised(routes['GET /api/v1/runs']),
    }
  }

  it('asks for an account when the API answers 401, keeps the token, and signs out', async () => {
    const user = userEvent.setup()
    const fetch = fakeFetch({
      ...guarded('t1'),
      'POST /api/v1/auth/token': (_, init) => {
        const sent = String(init.body)
        return sent.includes('password=right') ? json({ access_token: 't1', expires_in: 60 }) : problem(401, { detail: 'Try another.' })
      },
    })
    render(withServices(<App />))
    expect(await screen.findByRole('heading', { name: 'Sign in' })).toBeTruthy()
    expect(screen.getByTestId('api-state').dataset.state).toBe('ok')
    await user.type(screen.getByLabelText('User name'), 'ana')
    await user.type(screen.getByLabelText('Password'), 'wrong')
    await user.click(screen.getByRole('button', { name: 'Sign in' }))
    expect((await screen.findByRole('alert')).textContent).toContain('Try another.')

    await user.clear(screen.getByLabelText('Password'))
    await user.type(screen.getByLabelText('Password'), 'right{Enter}')
    expect(await screen.findByTestId('chart')).toBeTruthy()
    expect(sessionStorage.getItem('novacorrente.session')).toContain('t1')
    expect(FakeSocket.last.protocols).toContain('t1')

    await user.click(screen.getByRole('button', { name: 'Sign out' }))
    expect(await screen.findByRole('heading', { name: 'Sign in' })).toBeTruthy()
    expect(sessionStorage.length).toBe(0)
    expect(fetch.mock.calls.some(([url]) => String(url).includes('right'))).toBe(false)
  })

  it('asks again when a token is no longer taken', async () => {
    signedIn('old')
    fakeFetch(guarded('new'))
    render(withServices(<App />))
    expect(await screen.findByRole('heading', { name: 'Sign in' })).toBeTruthy()
    expect(sessionStorage.length).toBe(0)
  })
})

describe('ErrorBoundary', () => {
  it('shows the fault with the last request id and draws again on retry', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined)
    const user = userEvent.setup()
    const services = createServices('')
    services.client.lastRequestId = 'r-42'
    let broken = true
    function Part() {
      if (broken) throw new Error('a point without a month')
      return <p>drawn</p>
    }
    render(
      withServices(
        <ErrorBoundary what="The chart">
          <Part />
        </ErrorBoundary>,
        services,
      ),
    )
    const alert = screen.getByRole('alert')
    expect(alert.textContent).toContain('The chart could not be shown')
    expect(alert.textContent).toContain('a point without a month')
    expect(screen.getByTestId('request-id').textContent).toBe('r-42')
    broken = false
    await user.click(screen.getByRole('button', { name: 'Try again' }))
    expect(screen.getByText('drawn')).toBeTruthy()
  })
})
