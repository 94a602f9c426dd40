/* SPDX-License-Identifier: GPL-3.0-or-later */
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    // Nothing is inlined: the page must load under a Content-Security-Policy of 'self' alone.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      output: {
        // Libraries change less often than our code: a file of their own stays cached across releases.
        // There is no dynamic import, so an open page never asks for a chunk that a rollout took away.
        manualChunks: (id) => (id.includes('/node_modules/') ? 'vendor' : undefined),
      },
    },
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      '/api': { target: process.env.API_PROXY ?? 'http://127.0.0.1:8001', changeOrigin: true },
      '/ws': { target: process.env.API_PROXY ?? 'http://127.0.0.1:8001', changeOrigin: true, ws: true },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.{ts,tsx}'],
    setupFiles: ['tests/setup.ts'],
    testTimeout: 60_000,
    restoreMocks: true,
  },
})
