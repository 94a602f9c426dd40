/* SPDX-License-Identifier: GPL-3.0-or-later */
/// <reference types="vite/client" />

interface ImportMetaEnv {
  /** Base address of the API, if it is not the page's own origin. */
  readonly VITE_API_URL?: string
}
