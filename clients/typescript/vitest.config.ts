import { defineConfig } from 'vitest/config';

const common = { testTimeout: 60_000, hookTimeout: 60_000, pool: 'forks', maxWorkers: 2 } as const;

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'kit', include: ['test/**/*.test.ts'], env: { APOLLO: '4' } } },
      // The same tests of the link with Apollo Client 3.
      { resolve: { alias: { '@apollo/client': 'apollo3' } }, test: { ...common, name: 'apollo3', env: { APOLLO: '3' }, include: ['test/apollo.test.ts'], server: { deps: { inline: [/apollo3/] } } } },
    ],
  },
});
