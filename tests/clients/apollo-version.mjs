// Exports the parts that Apollo Client 3 and 4 have in common, under the names of 4. APOLLO is the major
// version.
import { createRequire } from 'node:module';

// The CommonJS builds are used, because Node cannot load the ES modules of version 3.
const require = createRequire(import.meta.url);
const major = process.env.APOLLO;
if (major !== '3' && major !== '4') throw new Error('APOLLO must be 3 or 4');
const [name, core] = major === '3' ? ['apollo3', 'apollo3/core'] : ['@apollo/client', '@apollo/client'];

export const { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } = require(core);
export const { RetryLink } = require(`${name}/link/retry`);
export const { createPersistedQueryLink } = require(`${name}/link/persisted-queries`);
export const { GraphQLWsLink } = require(`${name}/link/subscriptions`);
export const { getMainDefinition, relayStylePagination } = require(`${name}/utilities`);
