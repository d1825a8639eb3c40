// A real browser with a profile of its own, which can be killed and started again.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Browser, type BrowserContext, type Page, chromium } from 'playwright-core';

import { eventually } from '../support/server.js';

// Without them, Chromium asks for hosts that this machine cannot reach.
const QUIET = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export class Chromium {
  readonly #profile = mkdtempSync(join(tmpdir(), 'idem-browser-'));
  #process: ChildProcess | undefined;
  #browser: Browser | undefined;

  async start(): Promise<void> {
    const port = join(this.#profile, 'DevToolsActivePort');
    rmSync(port, { force: true });
    const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    this.#process = spawn('/usr/bin/chromium', ['--headless', ...sandbox, ...QUIET, '--remote-debugging-port=0', `--user-data-dir=${this.#profile}`, 'about:blank'], { stdio: 'ignore' });
    const number = await eventually('the browser is started', () => existsSync(port) && readFileSync(port, 'utf8').split('\n')[0]);
    this.#browser = await chromium.connectOverCDP(`http://127.0.0.1:${number}`);
  }

  get context(): BrowserContext {
    return this.#browser!.contexts()[0]!;
  }

  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(url, { timeout: 20_000 });
    return page;
  }

  /** Freezes a tab as the browser does to save power, or lets it go on. */
  async setFrozen(page: Page, isFrozen: boolean): Promise<void> {
    const session = await this.context.newCDPSession(page);
    await session.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' });
    await session.detach();
  }

  /** Kills one of the processes that run tabs, chosen by a number from 0 to below 1. */
  async killRenderer(choice: number): Promise<void> {
    const session = await this.#browser!.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    const renderers = processInfo.filter(({ type }) => type === 'renderer');
    const chosen = renderers[Math.floor(choice * renderers.length)];
    if (chosen) process.kill(chosen.id, 'SIGKILL');
    await session.detach();
  }

  /** Kills the browser as a power cut does. */
  async kill(): Promise<void> {
    const exited = new Promise((resolve) => this.#process!.once('exit', resolve));
    this.#process!.kill('SIGKILL');
    await exited;
    await this.#browser?.close().catch(() => {});
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
