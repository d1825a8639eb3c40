// Sends GraphQL requests and tells the failures apart: what may be sent again, what needs a token, and what the
// server refuses.

import type { Fields, Problem } from '../core/model.js';

export type TokenSource = (options: { renew: boolean }) => string | null | undefined | Promise<string | null | undefined>;

export interface Endpoint {
  /** The address of the server, without a path. */
  url: string;
  subject: string;
  issuer: string | null;
  token: TokenSource;
  fetch: typeof fetch;
}

/**
 * Why a request brought no data.
 * - `offline`: no connection, or none within a minute.
 * - `busy`: the server cannot answer now: 5xx, 429, UNAVAILABLE, INTERNAL.
 * - `foreign`: the answer is not of this server, for example the login page of a Wi-Fi network, or it is cut.
 * - `noToken`: there is no token, or the server refused it, and a renewed one too.
 * - `wrongUser`: the token is of another user than this client.
 * - `refused`: the server refuses this request as it is.
 */
export type FailureKind = 'offline' | 'busy' | 'foreign' | 'noToken' | 'wrongUser' | 'refused';

export class RequestError extends Error {
  override readonly name = 'RequestError';
  constructor(
    readonly kind: FailureKind,
    message: string,
    /** How long the server asks to wait. */
    readonly retryAfterMs: number | null = null,
    /** Of `refused`. */
    readonly problem: Problem | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

const TIMEOUT_MS = 60_000;

/** Sends a request and returns its `data`. A refused token is renewed once. Rejects with `RequestError`. */
export async function send<T>(endpoint: Endpoint, query: string, variables: Fields, signal?: AbortSignal): Promise<T> {
  const headers = { accept: 'application/graphql-response+json, application/json' };
  const response = await post(endpoint, query, variables, headers, AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])]));
  return dataOf<T>(response, await bodyOf(response));
}

/** Sends a request and returns a response that is not an error of HTTP. A refused token is renewed once. */
export async function post(endpoint: Endpoint, query: string, variables: Fields, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ query, variables });
  return authorized(endpoint, '/graphql', { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body, signal });
}

/** Sends any request with a token; one that the server refuses is renewed once. */
export async function authorized(endpoint: Endpoint, path: string, init: RequestInit): Promise<Response> {
  let token = await tokenOf(endpoint, false);
  for (const isRenewed of [false, true]) {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${token}` };
    const response = await endpoint.fetch(new URL(path, endpoint.url), { ...init, headers }).catch((cause: unknown) => {
      throw new RequestError('offline', 'the server cannot be reached', null, null, { cause });
    });
    if (response.status === 429 || response.status >= 500) throw new RequestError('busy', `the server answered with status ${response.status}`, retryAfterMs(response));
    if (response.status !== 401 && response.status !== 403) return response;
    await response.body?.cancel();
    if (!isRenewed) token = await renewedToken(endpoint, token);
  }
  throw new RequestError('noToken', 'the server refused the token');
}

/** The token after one that was refused. Requests that are refused at the same time renew it once. */
async function renewedToken(endpoint: Endpoint, refused: string): Promise<string> {
  const current = await tokenOf(endpoint, false);
  if (current !== refused) return current;
  const renewal = renewals.get(endpoint) ?? tokenOf(endpoint, true).finally(() => renewals.delete(endpoint));
  renewals.set(endpoint, renewal);
  return renewal;
}

const renewals = new WeakMap<Endpoint, Promise<string>>();

async function tokenOf({ token: source, subject, issuer }: Endpoint, renew: boolean): Promise<string> {
  let token: string | null | undefined;
  try {
    token = await source({ renew });
  } catch (cause) {
    throw new RequestError('noToken', 'there is no token', null, null, { cause });
  }
  if (!token) throw new RequestError('noToken', 'there is no token');
  const claims = claimsOf(token);
  if (claims && (claims.sub !== subject || (issuer !== null && claims.iss !== issuer))) {
    throw new RequestError('wrongUser', 'the token is of another user');
  }
  return token;
}

/** The claims of a JWT, which only the server verifies; null if it cannot be read here. */
function claimsOf(token: string): { sub?: unknown; iss?: unknown } | null {
  try {
    const text = atob(token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}

/** `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). */
function retryAfterMs(response: Response): number | null {
  const value = response.headers.get('retry-after');
  if (value === null) return null;
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? null : Math.max(ms, 0);
}

const tooLarge: Problem = { code: 'PAYLOAD_TOO_LARGE', detail: 'The request is too large.', retryable: false, retryAfterMs: null };

interface Answer {
  data?: unknown;
  errors?: { message: string; extensions?: { code?: string; problem?: Partial<Problem> } }[];
}

async function bodyOf(response: Response): Promise<Answer> {
  // A proxy may refuse a body that the server would take.
  if (response.status === 413) throw new RequestError('refused', 'the request is too large', null, tooLarge);
  try {
    const body: unknown = JSON.parse(await response.text());
    if (typeof body === 'object' && body !== null && ('data' in body || 'errors' in body)) return body as Answer;
  } catch (cause) {
    throw new RequestError('foreign', 'the answer is not of this server, or is cut', null, null, { cause });
  }
  throw new RequestError('foreign', 'the answer is not of this server');
}

function dataOf<T>(response: Response, { data, errors }: Answer): T {
  const error = errors?.[0];
  if (!error) {
    if (response.ok && data) return data as T;
    throw new RequestError('foreign', `an answer without data has status ${response.status}`);
  }
  const { code = 'UNKNOWN', problem } = error.extensions ?? {};
  const retryable = problem?.retryable ?? (code === 'UNAVAILABLE' || code === 'INTERNAL' || code === 'RATE_LIMITED');
  if (retryable || code === 'INTERNAL') throw new RequestError('busy', error.message, problem?.retryAfterMs ?? null);
  if (code === 'UNAUTHENTICATED' || code === 'FORBIDDEN') throw new RequestError('noToken', error.message);
  throw new RequestError('refused', error.message, null, { code, detail: problem?.detail ?? error.message, retryable: false, retryAfterMs: null });
}
