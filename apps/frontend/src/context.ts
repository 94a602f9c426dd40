/* SPDX-License-Identifier: GPL-3.0-or-later */
import { createContext, use, useSyncExternalStore } from 'react'
import { ApiClient } from './api/client'
import { HealthStore, type Health } from './api/health'
import { SessionStore } from './api/session'

export interface Services {
  client: ApiClient
  session: SessionStore
  health: HealthStore
}

export function createServices(baseUrl: string): Services {
  const session = new SessionStore()
  const client = new ApiClient({ baseUrl, token: session.token })
  return { client, session, health: new HealthStore(client) }
}

export const ServicesContext = createContext<Services | null>(null)

export function useServices(): Services {
  const services = use(ServicesContext)
  if (services === null) throw new Error('ServicesContext is missing above this component.')
  return services
}

export function useHealth(): Health {
  const { health } = useServices()
  return useSyncExternalStore(health.subscribe, health.current)
}

export function useSignedIn(): boolean {
  const { session } = useServices()
  return useSyncExternalStore(session.subscribe, session.signedIn)
}
