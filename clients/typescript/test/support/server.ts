// Starts the server under test as a process of its own: on SQLite in a directory of its own, or on the PostgreSQL and
// the Redis that SERVER_POSTGRES and SERVER_REDIS name, which all servers of a run share.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { cpSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SECRET = 'a secret of the tests, 32 bytes or more';

/** Returns a token of this subject that is valid for an hour, or for `seconds`. */
export function tokenOf(subject: string, seconds = 3600): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: subject, iat: now, exp: now + seconds })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

export class Server {
  readonly url: string;
  readonly #dir = mkdtempSync(join(tmpdir(), 'idem-kit-'));
  #process: ChildProcess | undefined;
  #env: NodeJS.ProcessEnv = {};

  private constructor(readonly port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<Server> {
    const server = new Server(await freePort());
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const binary = process.env.SERVER_BINARY;
    if (!binary) throw new Error('SERVER_BINARY is not set: `make test` runs these tests');
    const settings = {
      IDEM_DATA_DIR: this.#dir, IDEM_METRICS_LISTEN: '127.0.0.1:0', IDEM_JWT_SECRET: SECRET, IDEM_RATE_LIMIT: '0', IDEM_LOG: 'warn',
    };
    const { SERVER_POSTGRES: postgres, SERVER_REDIS: redis, SERVER_PAYLOADS: payloads } = process.env;
    const shared = postgres ? { IDEM_DATABASE_URL: postgres, IDEM_REDIS_URL: redis, IDEM_PAYLOAD_URL: `file://${payloads}` } : {};
    this.#env = Object.fromEntries(Object.entries({ ...process.env, ...settings, ...shared }).filter(([name]) => !name.startsWith('SERVER_')));
    const log = openSync(join(this.#dir, 'log'), 'a');
    this.#process = spawn(binary, ['serve', '--listen', `127.0.0.1:${this.port}`], {
      cwd: this.#dir,
      stdio: ['ignore', log, log],
      env: this.#env,
    });
    await eventually('the server is ready', async () => (await fetch(`${this.url}/readyz`).catch(() => null))?.ok);
  }

  /** Kills the server as a power cut does. What it has acknowledged stays. */
  async kill(): Promise<void> {
    const exited = new Promise((resolve) => this.#process!.once('exit', resolve));
    this.#process!.kill('SIGKILL');
    await exited;
  }

  /** Copies the data, as a backup does. The server must be stopped. */
  backUp(): void {
    cpSync(this.#dir, `${this.#dir}-backup`, { recursive: true });
  }

  /** Puts the copy back and does what an operator does after that. The server must be stopped. */
  restore(): void {
    rmSync(this.#dir, { recursive: true });
    cpSync(`${this.#dir}-backup`, this.#dir, { recursive: true });
    execFileSync(process.env.SERVER_BINARY!, ['restored'], { env: this.#env, cwd: this.#dir });
  }

  async end(): Promise<void> {
    await this.kill();
    for (const dir of [this.#dir, `${this.#dir}-backup`]) rmSync(dir, { recursive: true, force: true });
  }

  /** Sends a request as this user and returns its data. */
  async ask(subject: string, query: string, variables: object = {}): Promise<any> {
    const headers = { authorization: `Bearer ${tokenOf(subject)}`, 'content-type': 'application/json' };
    const response = await fetch(`${this.url}/graphql`, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
    const result = await response.json() as { data: unknown; errors?: unknown };
    if (result.errors) throw new Error(JSON.stringify(result));
    return result.data;
  }
}

async function freePort(): Promise<number> {
  const listener = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const { port } = listener.address() as net.AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/** Waits until `holds` returns a truthy value, and returns it. Throws with `what` after 20 s. */
export async function eventually<T>(what: string, holds: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await holds();
    if (value) return value as NonNullable<T>;
    if (Date.now() > deadline) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
