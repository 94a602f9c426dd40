/* SPDX-License-Identifier: GPL-3.0-or-later */
import { cleanup, configure } from '@testing-library/react'
import { afterEach, vi } from 'vitest'

// A busy machine is no failure.
configure({ asyncUtilTimeout: 15_000 })

// jsdom lays nothing out: the chart is told a size, so that it is drawn.
vi.stubGlobal(
  'ResizeObserver',
  class {
    observe(): void {}
    unobserve(): void {}
    disconnect(): void {}
  },
)
Element.prototype.getBoundingClientRect = function (this: Element) {
  return this.classList.contains('recharts-responsive-container') ? new DOMRect(0, 0, 800, 400) : new DOMRect()
}

afterEach(() => {
  cleanup()
  sessionStorage.clear()
  location.hash = ''
})
