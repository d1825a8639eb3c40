// A real browser with a profile of its own, which can be killed and started again.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';

import { eventually } from '../support/server.js';

// Without them, Chromium asks for hosts that this machine cannot reach.
const QUIET = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** For what may hang because a tab is frozen or has crashed. */
export const BRIEF_MS = 2_000;

export class Chromium {
  readonly #profile = mkdtempSync(join(tmpdir(), 'idem-browser-'));
  #process: ChildProcess | undefined;
  #browser: Browser | undefined;
  readonly #frozen = new Set<number>();

  async start(): Promise<void> {
    const port = join(this.#profile, 'DevToolsActivePort');
    rmSync(port, { force: true });
    const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    this.#process = spawn('/usr/bin/chromium', ['--headless', ...sandbox, ...QUIET, '--remote-debugging-port=0', `--user-data-dir=${this.#profile}`, 'about:blank'], {
      stdio: 'ignore',
      // A group of its own: the system ends a group of processes in which one is stopped and the first has exited.
      detached: true,
    });
    const number = await eventually('the browser is started', () => existsSync(port) && readFileSync(port, 'utf8').split('\n')[0]);
    this.#browser = await within('connecting to the browser', chromium.connectOverCDP(`http://127.0.0.1:${number}`));
  }

  get context(): BrowserContext {
    return this.#browser!.contexts()[0]!;
  }

  /** Opens a tab. `onError` is called with each error that the page does not catch. */
  async open(url: string, onError: (error: Error) => void): Promise<Page> {
    const page = await within('opening a tab', this.context.newPage(), 30_000);
    page.on('pageerror', onError);
    await page.goto(url, { timeout: 30_000 });
    return page;
  }

  /** Stops one of the processes that run tabs, chosen by a number from 0 to below 1: its tabs are frozen. */
  async freezeRenderer(choice: number): Promise<void> {
    const id = await this.#renderer(choice);
    if (id === undefined) return;
    process.kill(id, 'SIGSTOP');
    this.#frozen.add(id);
  }

  /** Lets all frozen processes go on. */
  thaw(): void {
    for (const id of this.#frozen) signal(id, 'SIGCONT');
    this.#frozen.clear();
  }

  /** Kills one of the processes that run tabs. */
  async killRenderer(choice: number): Promise<void> {
    const id = await this.#renderer(choice);
    if (id !== undefined) signal(id, 'SIGKILL');
  }

  async #renderer(choice: number): Promise<number | undefined> {
    const session = await within('reaching the browser', this.#browser!.newBrowserCDPSession());
    const { processInfo } = await within('asking for processes', session.send('SystemInfo.getProcessInfo'));
    await within('leaving the browser', session.detach(), BRIEF_MS).catch(() => {});
    const renderers = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id).sort((x, y) => x - y);
    return renderers[Math.floor(choice * renderers.length)];
  }

  /** Kills the browser as a power cut does. */
  async kill(): Promise<void> {
    this.thaw();
    const exited = new Promise((resolve) => this.#process!.once('exit', resolve));
    this.#process!.kill('SIGKILL');
    await exited;
    await within('leaving the browser', this.#browser?.close() ?? Promise.resolve(), BRIEF_MS).catch(() => {});
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Playwright waits without an end for a page that has crashed: rejects after a time instead. */
export async function within<T>(what: string, work: Promise<T>, ms = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} takes longer than ${ms} ms`)), ms); });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Sends a signal to a process that may have ended meanwhile. */
function signal(id: number, name: NodeJS.Signals): void {
  try {
    process.kill(id, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
