/* SPDX-License-Identifier: GPL-3.0-or-later */
import { Component, type ContextType, type ErrorInfo, type ReactNode } from 'react'
import { ApiError } from '../api/problem'
import { ServicesContext } from '../context'
import { ProblemNotice } from './ProblemNotice'

interface Props {
  /** What fails when this boundary catches, as the start of a sentence. */
  what: string
  children: ReactNode
}

interface State {
  error: unknown
  failed: boolean
}

/** Keeps a fault while drawing inside one part of the page, and lets the reader try again. */
export class ErrorBoundary extends Component<Props, State> {
  static override contextType = ServicesContext
  declare context: ContextType<typeof ServicesContext>
  override state: State = { error: null, failed: false }

  static getDerivedStateFromError(error: unknown): State {
    return { error, failed: true }
  }

  override componentDidCatch(error: unknown, info: ErrorInfo): void {
    console.error(error, info.componentStack)
  }

  private readonly retry = (): void => {
    this.setState({ error: null, failed: false })
  }

  override render(): ReactNode {
    if (!this.state.failed) return this.props.children
    return <ProblemNotice error={this.asApiError()} onRetry={this.retry} />
  }

  private asApiError(): ApiError {
    const { error } = this.state
    if (error instanceof ApiError) return error
    const detail = error instanceof Error ? error.message : String(error)
    const problem = { type: 'about:blank', title: `${this.props.what} could not be shown`, status: 0, detail }
    return new ApiError(problem, this.context?.client.lastRequestId ?? null)
  }
}
