import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The page lives under /app/ but is built with relative addresses, so that any prefix works.
export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    // Browsers that have light-dark(), text-wrap and the popover attribute.
    target: ['chrome123', 'firefox128', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        // A person's first visit loads `index` and `markdown`; the rest comes when it is needed.
        codeSplitting: { groups: [{ name: 'markdown', test: /node_modules\/(markdown-it|linkify-it|mdurl|uc\.micro|entities|punycode)/ }] },
      },
    },
  },
  server: {
    proxy: { '/onebit': 'http://127.0.0.1:8000', '/v1': 'http://127.0.0.1:8000' },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
