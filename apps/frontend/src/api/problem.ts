/* SPDX-License-Identifier: GPL-3.0-or-later */

/** An error as RFC 9457 describes it, with the extensions that the platform's API adds. */
export interface Problem {
  type: string
  title: string
  status: number
  detail?: string
  instance?: string
  errors?: FieldError[]
}

export interface FieldError {
  pointer: string
  message: string
}

/** A failed exchange with the API: an answer with an error status (status >= 400) or none at all (status 0). */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly problem: Problem
  readonly requestId: string | null
  readonly retryAfter: number | null

  constructor(problem: Problem, requestId: string | null = null, retryAfter: number | null = null) {
    super(problem.detail ?? problem.title)
    this.problem = problem
    this.requestId = requestId
    this.retryAfter = retryAfter
  }

  get status(): number {
    return this.problem.status
  }
}

const titles: Record<number, string> = {
  400: 'The request was not understood',
  401: 'Sign-in is needed',
  403: 'Not allowed',
  404: 'Not found',
  409: 'Conflict',
  422: 'The request is not valid',
  429: 'Too many requests',
  500: 'The API failed',
  502: 'The API gave no usable answer',
  503: 'The API is not available',
  504: 'The API took too long',
}

export function titleOf(status: number): string {
  return titles[status] ?? (status === 0 ? 'The API cannot be reached' : `The API answered with status ${status}`)
}

/** An answer of a good status that cannot be used. */
export function unusable(detail: string, requestId: string | null = null): ApiError {
  return new ApiError({ type: 'about:blank', title: titleOf(502), status: 502, detail }, requestId)
}

/** Read the problem out of an error answer; a proxy's HTML page or an empty body give a problem by status alone. */
export async function errorFrom(response: Response, sentId: string | null = null): Promise<ApiError> {
  let body: unknown = null
  if (/[/+]json\b/.test(response.headers.get('content-type') ?? '')) {
    body = await response.json().catch(() => null)
  }
  const fields = isRecord(body) ? body : {}
  const problem: Problem = {
    type: text(fields.type) ?? 'about:blank',
    title: text(fields.title) ?? titleOf(response.status),
    status: response.status,
    detail: text(fields.detail),
    instance: text(fields.instance),
    errors: fieldErrors(fields.errors),
  }
  const requestId = response.headers.get('x-request-id') ?? text(fields.request_id) ?? sentId
  return new ApiError(problem, requestId, seconds(response.headers.get('retry-after')))
}

function fieldErrors(value: unknown): FieldError[] | undefined {
  if (!Array.isArray(value)) return undefined
  const found = value.filter(isRecord).map((item) => ({
    pointer: text(item.where) ?? text(item.pointer) ?? (Array.isArray(item.loc) ? item.loc.join('.') : ''),
    message: text(item.detail) ?? text(item.message) ?? text(item.msg) ?? 'is not valid',
  }))
  return found.length > 0 ? found : undefined
}

function seconds(header: string | null): number | null {
  const value = header === null ? NaN : Number(header)
  return Number.isFinite(value) && value >= 0 ? value : null
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
