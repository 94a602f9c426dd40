/* SPDX-License-Identifier: GPL-3.0-or-later */
import type { ReactNode } from 'react'
import { vi, type Mock } from 'vitest'
import { createServices, ServicesContext, type Services } from '../src/context'

type Route = (url: URL, init: RequestInit) => Response

/** Answers requests by "METHOD path"; a route that is missing answers 404 as a problem. */
export function fakeFetch(routes: Record<string, Route>): Mock<typeof fetch> {
  const answer = vi.fn<typeof fetch>((input, init = {}) => {
    const url = new URL(String(input), 'https://platform.test')
    const route = routes[`${init.method ?? 'GET'} ${url.pathname}`]
    return Promise.resolve(route ? route(url, init) : problem(404, { title: 'No such path' }))
  })
  vi.stubGlobal('fetch', answer)
  return answer
}

export function json(body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json', ...headers } })
}

export function problem(status: number, body: object, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify({ type: 'about:blank', status, ...body }), {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
  })
}

/** A WebSocket that the test plays the server of. */
export class FakeSocket {
  static all: FakeSocket[] = []
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  closed = false

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeSocket.all.push(this)
  }

  static install(): void {
    FakeSocket.all = []
    vi.stubGlobal('WebSocket', FakeSocket)
  }

  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1)
    if (socket === undefined) throw new Error('No WebSocket was opened.')
    return socket
  }

  close(): void {
    this.closed = true
  }

  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }

  drop(code = 1006): void {
    this.onclose?.({ code })
  }
}

export function withServices(children: ReactNode, services: Services = createServices('')): ReactNode {
  return <ServicesContext value={services}>{children}</ServicesContext>
}
