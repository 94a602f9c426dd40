/* SPDX-License-Identifier: GPL-3.0-or-later */
import { describe, expect, it, vi } from 'vitest'
import { ApiClient, tablePath, type Exchange } from '../src/api/client'
import { HealthStore, judge } from '../src/api/health'
import { ApiError } from '../src/api/problem'
import { SessionStore } from '../src/api/session'
import { json, problem } from './fakes'

function clientThatGets(response: Response | Error, options: { token?: string; baseUrl?: string } = {}) {
  const fetch = vi.fn<typeof globalThis.fetch>(() =>
    response instanceof Error ? Promise.reject(response) : Promise.resolve(response),
  )
  const client = new ApiClient({ baseUrl: options.baseUrl, token: () => options.token ?? null, fetch })
  return { client, fetch }
}

async function failure(promise: Promise<unknown>): Promise<ApiError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof ApiError)) throw new Error('An ApiError was expected.')
  return error
}

describe('tablePath', () => {
  it('asks for a page', () => {
    expect(tablePath('weather_monthly', { limit: 20, offset: 40 })).toBe('/api/v1/tables/weather_monthly?limit=20&offset=40')
  })

  it('writes order, columns and filters, and escapes what the reader typed', () => {
    const path = tablePath('a/b', {
      limit: 10,
      offset: 0,
      orderBy: 'month',
      descending: true,
      columns: ['month', 'rain'],
      filters: [
        { column: 'place', operator: 'eq', value: 'São & Paulo' },
        { column: 'rain', operator: 'ge', value: '1.5' },
        { column: 'sky', operator: 'contains', value: 'sun' },
      ],
    })
    expect(path.startsWith('/api/v1/tables/a%2Fb?')).toBe(true)
    const query = new URL(path, 'https://platform.test').searchParams
    expect(query.get('order_by')).toBe('-month')
    expect(query.get('columns')).toBe('month,rain')
    expect(query.getAll('filter')).toEqual(['place:eq:São & Paulo', 'rain:ge:1.5', 'sky:like:%sun%'])
  })
})

describe('ApiClient', () => {
  it('sends the token and goes to the base address', async () => {
    const { client, fetch } = clientThatGets(json({ tables: [] }), { token: 'abc', baseUrl: 'https://api.test/' })
    await client.tables()
    const [url, init] = fetch.mock.calls[0] ?? []
    expect(url).toBe('https://api.test/api/v1/tables')
    expect(new Headers(init?.headers).get('authorization')).toBe('Bearer abc')
  })

  it('reads a problem with its request id and field errors', async () => {
    const answer = problem(
      422,
      { title: 'Unprocessable', detail: 'A filter is wrong.', errors: [{ where: 'query.filter', message: 'unknown column' }] },
      { 'x-request-id': 'r-17', 'retry-after': '3' },
    )
    const error = await failure(clientThatGets(answer).client.tables())
    expect(error.problem).toMatchObject({ title: 'Unprocessable', status: 422, detail: 'A filter is wrong.' })
    expect(error.problem.errors).toEqual([{ pointer: 'query.filter', message: 'unknown column' }])
    expect(error.requestId).toBe('r-17')
    expect(error.retryAfter).toBe(3)
  })

  it("makes a problem of a proxy's page", async () => {
    const answer = new Response('<h1>Bad gateway</h1>', { status: 502, headers: { 'content-type': 'text/html' } })
    const error = await failure(clientThatGets(answer).client.tables())
    expect(error.problem).toMatchObject({ status: 502, title: 'The API gave no usable answer', type: 'about:blank' })
    expect(error.requestId).toMatch(/^[0-9a-f-]{36}$/)
  })

  it('makes a problem of no answer, of an answer that is not JSON and of one of another shape', async () => {
    expect((await failure(clientThatGets(new TypeError('failed')).client.tables())).status).toBe(0)
    expect((await failure(clientThatGets(new Response('<html>')).client.tables())).message).toBe('The answer is not JSON.')
    expect((await failure(clientThatGets(json({})).client.tables())).message).toBe('The answer holds no list of tables.')
  })

  it('gives every request an id, for those without an answer too', async () => {
    const { client, fetch } = clientThatGets(new TypeError('failed'))
    const error = await failure(client.tables())
    expect(new Headers(fetch.mock.calls[0]?.[1]?.headers).get('x-request-id')).toBe(error.requestId)
    expect(client.lastRequestId).toBe(error.requestId)
  })

  it('puts many rows together from pages', async () => {
    const asked: string[] = []
    const client = new ApiClient({
      fetch: (input) => {
        const query = new URL(String(input), 'https://platform.test').searchParams
        asked.push(`${query.get('offset')}+${query.get('limit')}`)
        return Promise.resolve(json({ columns: [], rows: [{ at: Number(query.get('offset')) }], total: 9_000 }))
      },
    })
    const page = await client.manyRows('t', {}, 2_500)
    expect(asked).toEqual(['0+1000', '1000+1000', '2000+500'])
    expect(page).toMatchObject({ total: 9_000, rows: [{ at: 0 }, { at: 1_000 }, { at: 2_000 }] })
  })

  it('keeps a cancelled request apart from a failure', async () => {
    const { client } = clientThatGets(new DOMException('cancelled', 'AbortError'))
    const seen = vi.fn()
    client.observe(seen)
    await expect(client.tables(AbortSignal.abort())).rejects.not.toBeInstanceOf(ApiError)
    expect(seen).not.toHaveBeenCalled()
  })

  it('finds the WebSocket next to the API', () => {
    expect(new ApiClient().socketUrl('/ws/runs')).toBe('ws://localhost:3000/ws/runs')
    expect(new ApiClient({ baseUrl: 'https://api.test/v' }).socketUrl('/ws/runs')).toBe('wss://api.test/v/ws/runs')
  })
})

describe('the state of the API', () => {
  const exchange: Exchange = { status: 200, milliseconds: 12, version: null }

  it.each([
    [{}, 'ok'],
    [{ status: 401 }, 'ok'],
    [{ status: 404 }, 'ok'],
    [{ milliseconds: 2_500 }, 'degraded'],
    [{ status: 429 }, 'degraded'],
    [{ status: 500 }, 'degraded'],
    [{ status: 503 }, 'offline'],
    [{ status: 503, version: '1.4.0' }, 'degraded'],
    [{ status: 0 }, 'offline'],
  ])('%j is %s', (change, state) => {
    expect(judge({ ...exchange, ...change }).state).toBe(state)
  })

  it('shows the version and counts recoveries', async () => {
    const answers = [new Response('', { status: 503 }), json([], { 'x-platform-version': '1.4.0' })]
    const client = new ApiClient({ fetch: () => Promise.resolve(answers.shift() ?? json([])) })
    const health = new HealthStore(client)
    await failure(client.tables())
    expect(health.current()).toMatchObject({ state: 'offline', version: null, recoveries: 0 })
    await client.tables()
    expect(health.current()).toMatchObject({ state: 'ok', version: '1.4.0', recoveries: 1 })
  })
})

describe('SessionStore', () => {
  it('outlives a reload and ends in time', () => {
    new SessionStore().set({ token: 'abc', expiresAt: Date.now() + 60_000 })
    const store = new SessionStore()
    expect(store.token()).toBe('abc')
    store.set({ token: 'abc', expiresAt: Date.now() - 1 })
    expect(store.token()).toBeNull()
    expect(new SessionStore().token()).toBeNull()
  })

  it('works where storage is denied or holds something else', () => {
    sessionStorage.setItem('novacorrente.session', '{"token": 1')
    expect(new SessionStore().token()).toBeNull()
    const store = new SessionStore(null)
    store.set({ token: 'abc', expiresAt: Date.now() + 60_000 })
    expect(store.token()).toBe('abc')
  })
})
