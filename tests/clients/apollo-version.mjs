// Apollo Client as APOLLO says, 3 or 4: the parts that both have, under the names of 4.
import { createRequire } from 'node:module';

// The CommonJS build of either: the ES modules of 3 cannot be loaded by Node.
const require = createRequire(import.meta.url);
const major = process.env.APOLLO;
if (major !== '3' && major !== '4') throw new Error('APOLLO says which: 3 or 4');
const [name, core] = major === '3' ? ['apollo3', 'apollo3/core'] : ['@apollo/client', '@apollo/client'];

export const { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } = require(core);
export const { RetryLink } = require(`${name}/link/retry`);
export const { createPersistedQueryLink } = require(`${name}/link/persisted-queries`);
export const { GraphQLWsLink } = require(`${name}/link/subscriptions`);
export const { getMainDefinition, relayStylePagination } = require(`${name}/utilities`);
