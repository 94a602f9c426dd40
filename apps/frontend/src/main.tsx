/* SPDX-License-Identifier: GPL-3.0-or-later */
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './App'
import { ErrorBoundary } from './components/ErrorBoundary'
import { createServices, ServicesContext } from './context'
import './styles.css'

const root = document.getElementById('root')
if (root === null) throw new Error('The page has no element with the id "root".')

createRoot(root).render(
  <StrictMode>
    <ServicesContext value={createServices(import.meta.env.VITE_API_URL ?? '')}>
      <ErrorBoundary what="The dashboard">
        <App />
      </ErrorBoundary>
    </ServicesContext>
  </StrictMode>,
)
