/* SPDX-License-Identifier: GPL-3.0-or-later */
import { cleanup } from '@testing-library/react'
import { afterEach, vi } from 'vitest'

// jsdom lays nothing out: the chart's container asks for an observer and gets no size.
vi.stubGlobal(
  'ResizeObserver',
  class {
    observe(): void {}
    unobserve(): void {}
    disconnect(): void {}
  },
)

afterEach(() => {
  cleanup()
  sessionStorage.clear()
  location.hash = ''
})
