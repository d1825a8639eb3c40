// Runs the official audits of GraphQL over HTTP (npm graphql-http) against the server at URL, as the user of
// TOKEN. All must pass, even the optional ones, because clients rely on them.
import { serverAudits } from 'graphql-http';

const { URL: url, TOKEN: token } = process.env;
if (!url || !token) throw new Error('URL and TOKEN must be set');

// The number of audits in the pinned version. It is checked so that no audit gets lost.
const EXPECTED = 61;

const fetchFn = (target, init = {}) =>
  fetch(target, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });

const results = await Promise.all(serverAudits({ url, fetchFn }).map(({ fn }) => fn()));
const failed = results.filter(({ status }) => status !== 'ok');
for (const { id, name, reason, response } of failed) {
  console.error(`${id} ${name}\n  ${reason}; answered ${response.status}: ${await text(response)}`);
}
for (const level of ['MUST', 'SHOULD', 'MAY']) {
  const all = results.filter(({ name }) => name.startsWith(`${level} `));
  const passed = all.filter(({ status }) => status === 'ok');
  console.log(`${level}: ${passed.length} of ${all.length} audits pass`);
}
if (results.length !== EXPECTED) console.error(`${results.length} audits ran, not ${EXPECTED}`);
process.exitCode = failed.length === 0 && results.length === EXPECTED ? 0 : 1;

/** Returns the body, unless the audit has read it. */
async function text(response) {
  return response.bodyUsed ? '(read by the audit)' : (await response.text()).slice(0, 500);
}
