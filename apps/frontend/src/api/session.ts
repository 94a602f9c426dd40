/* SPDX-License-Identifier: GPL-3.0-or-later */
import { isRecord } from './problem'
import type { Session } from './types'

const KEY = 'novacorrente.session'

/**
 * The signed-in session. It lives in the tab's sessionStorage, so that it survives a reload and ends with the tab;
 * where storage is denied it lives in memory.
 */
export class SessionStore {
  private session: Session | null = null
  private readonly listeners = new Set<() => void>()
  private readonly storage: Storage | null

  constructor(storage: Storage | null = tabStorage()) {
    this.storage = storage
    this.session = this.load()
  }

  /** The token, or null where there is none or its time is over. */
  readonly token = (): string | null => {
    if (this.session !== null && this.session.expiresAt <= Date.now()) this.set(null)
    return this.session?.token ?? null
  }

  set(session: Session | null): void {
    this.session = session
    try {
      if (session === null) this.storage?.removeItem(KEY)
      else this.storage?.setItem(KEY, JSON.stringify(session))
    } catch {
      // A full or forbidden storage only costs the session's survival of a reload.
    }
    for (const listener of this.listeners) listener()
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => {
      this.listeners.delete(listener)
    }
  }

  readonly signedIn = (): boolean => this.session !== null

  private load(): Session | null {
    try {
      const value: unknown = JSON.parse(this.storage?.getItem(KEY) ?? 'null')
      if (!isRecord(value) || typeof value.token !== 'string' || typeof value.expiresAt !== 'number') return null
      return value.expiresAt > Date.now() ? { token: value.token, expiresAt: value.expiresAt } : null
    } catch {
      return null
    }
  }
}

function tabStorage(): Storage | null {
  try {
    return globalThis.sessionStorage
  } catch {
    return null
  }
}
