// One storm: two devices of a user with several tabs each, which create, edit, delete and undo, while the network, the
// tabs, the browsers and the server fail. In the end all have the same, and nothing is lost or stored twice.
import type { Page } from 'playwright-core';

import { type Server, tokenOf } from '../support/server.js';
import { BRIEF_MS, Chromium, within } from './browser.js';
import { type History, type Outcome, type RefusedEvent, type StoredEvent, faultsOf } from './history.js';
import { Network } from './network.js';
import type { App, Deed, Done } from './page.js';
import { Random } from './random.js';

const STEPS = 60;
const DEVICES = 2;
const TABS_MAX = 4;
const SETTLED_WITHIN_MS = 60_000;
/** A tab that does not answer within this time is frozen. */
const ANSWER_MS = 500;

const DEEDS: Record<Deed['deed'], number> = { create: 30, createBad: 2, createType: 3, update: 30, remove: 7, removeAndRestore: 5 };
const FAILURES = {
  none: 30, cut: 5, connect: 9, slow: 3, loseAnswers: 6, openTab: 5, closeTab: 3, reload: 5, freeze: 4, thaw: 4, killRenderer: 2, killBrowser: 1.5, killServer: 2, setClock: 3,
};

/** How far the clock of a device is set ahead or back, in milliseconds. An id that is a few minutes ahead waits for its time: no storm is that long. */
const CLOCKS = [0, 0, 30_000, 3_600_000, 3 * 86_400_000, -86_400_000];

interface Tab {
  page: Page;
  isFrozen: boolean;
}

class StormDevice {
  readonly browser = new Chromium();
  tabs: Tab[] = [];
  /** What the pages did not catch. */
  readonly errors: string[] = [];

  constructor(readonly number: number, readonly network: Network, private readonly user: string) {}

  get address(): string {
    return `${this.network.url}/#${new URLSearchParams({ subject: this.user, token: tokenOf(this.user) })}`;
  }

  async openTab(): Promise<Tab> {
    const tab = { page: await this.browser.open(this.address, (error) => this.errors.push(error.stack ?? error.message)), isFrozen: false };
    this.tabs.push(tab);
    return tab;
  }

  /** Finds out which tabs a process that was stopped had. */
  async findFrozenTabs(): Promise<void> {
    await Promise.all(this.tabs.map(async (tab) => { tab.isFrozen = (await inPage(tab.page, () => 1, undefined, ANSWER_MS)) !== 1; }));
  }

  thaw(): void {
    this.browser.thaw();
    for (const tab of this.tabs) tab.isFrozen = false;
  }

  /** Forgets tabs that have crashed or are closed. */
  async dropDeadTabs(): Promise<void> {
    const alive = await Promise.all(this.tabs.map(async (tab) => tab.isFrozen || (await inPage(tab.page, () => 1, undefined)) === 1));
    this.tabs = this.tabs.filter((_, index) => alive[index]);
  }
}

/** Runs a function in a page; null if the page dies or does not answer. */
async function inPage<A, T>(page: Page, work: (argument: A) => T | Promise<T>, argument: A, ms = 5_000): Promise<T | null> {
  const limit = new Promise<null>((resolve) => setTimeout(() => resolve(null), ms));
  const work2 = work as (argument: unknown) => T | Promise<T>;
  return Promise.race([page.evaluate(work2, argument as unknown).catch(() => null) as Promise<T | null>, limit]);
}

export interface StormOptions {
  seed: number;
  /** The page of the kit under test. */
  script: string;
  servers: Server[];
}

export interface StormReport {
  /** What was wrong in the end. */
  faults: string[];
  /** How many writes of the users are known to be durable. */
  writes: number;
}

/** Runs the storm of a seed. Rejects if a device does not settle, or differs from the server. */
export async function runStorm({ seed, script, servers }: StormOptions): Promise<StormReport> {
  const random = new Random(seed);
  const user = `storm-${seed}-${Date.now()}`;
  const files = { '/': { type: 'text/html', body: '<!doctype html><title>storm</title><script type="module" src="/page.js"></script>' }, '/page.js': { type: 'text/javascript', body: script } };
  const devices: StormDevice[] = [];
  for (let number = 0; number < DEVICES; number += 1) {
    devices.push(new StormDevice(number, await Network.open(files, () => servers.map(({ url }) => url)), user));
  }
  const history: History = { writes: [], unanswered: [] };
  try {
    await Promise.all(devices.map(async (device) => {
      await device.browser.start();
      for (let tabs = 2 + random.below(2); tabs > 0; tabs -= 1) await device.openTab();
    }));
    for (const device of devices) await act(device, history, random, { deed: 'createType', choice: 0, text: 'type 0' });
    for (let step = 0; step < STEPS; step += 1) {
      const device = devices[random.below(DEVICES)]!;
      await fail(device, servers, random);
      for (let deeds = random.below(4); deeds > 0; deeds -= 1) await act(device, history, random, deedOf(random, `${seed}-${step}-${deeds}`));
      await new Promise((resolve) => setTimeout(resolve, random.below(120)));
    }
    const outcome = await settle(devices, servers, user);
    return { faults: [...devices.flatMap(({ errors }) => errors), ...faultsOf(history, outcome)], writes: history.writes.length };
  } finally {
    for (const { browser, network } of devices) {
      await browser.end();
      await network.close();
    }
  }
}

/** Does one thing in a tab that is not frozen, and writes down what the page said. */
async function act(device: StormDevice, { writes, unanswered }: History, random: Random, deed: Deed): Promise<void> {
  const tab = random.pick(device.tabs.filter(({ isFrozen }) => !isFrozen));
  if (!tab) return;
  const done = await inPage(tab.page, (given: Deed): Promise<Done> => globalThis.app.act(given), deed);
  if (done && done.kind !== 'none') writes.push({ ...done, device: device.number });
  if (!done) unanswered.push(deed);
}

/** Types of both devices meet by their names; every other text is there once. */
function deedOf(random: Random, text: string): Deed {
  const deed = random.weighted(DEEDS);
  return { deed, choice: random.next(), text: deed === 'createType' ? `type ${random.below(6)}` : text };
}

async function fail(device: StormDevice, servers: Server[], random: Random): Promise<void> {
  const { browser, network } = device;
  const tab = random.pick(device.tabs);
  const choice = random.next();
  switch (random.weighted(FAILURES)) {
    case 'cut':
      return network.cut();
    case 'connect':
      Object.assign(network.weather, { isCut: false, delayMs: 0 });
      return;
    case 'slow':
      network.weather.delayMs = 50 + choice * 400;
      return;
    case 'loseAnswers':
      network.weather.lostAnswers = 1 + Math.floor(choice * 3);
      return;
    case 'openTab':
      if (device.tabs.length < TABS_MAX) await device.openTab().catch(() => {});
      return;
    case 'closeTab':
      if (!tab || device.tabs.length === 1) return;
      device.tabs = device.tabs.filter((other) => other !== tab);
      await within('closing a tab', tab.page.close(), BRIEF_MS).catch(() => {});
      return;
    case 'reload':
      if (tab && !tab.isFrozen) await within('reloading a tab', tab.page.reload(), 5_000).catch(() => {});
      return;
    case 'freeze':
      if (device.tabs.some(({ isFrozen }) => isFrozen)) return;
      await browser.freezeRenderer(choice).catch(() => {});
      await device.findFrozenTabs();
      // At least one tab goes on. A process without tabs would freeze the next tab while it opens.
      if (new Set(device.tabs.map(({ isFrozen }) => isFrozen)).size < 2) device.thaw();
      return;
    case 'thaw':
      return device.thaw();
    case 'killRenderer':
      await browser.killRenderer(choice).catch(() => {});
      await device.dropDeadTabs();
      if (device.tabs.length === 0) await device.openTab();
      return;
    case 'killBrowser':
      await browser.kill();
      await browser.start();
      device.tabs = [];
      await device.openTab();
      return;
    case 'setClock':
      if (tab && !tab.isFrozen) await inPage(tab.page, (ms: number) => globalThis.app.setClock(ms), CLOCKS[Math.floor(choice * CLOCKS.length)]!);
      return;
    case 'killServer': {
      const server = servers[Math.floor(choice * servers.length)]!;
      await server.kill();
      await server.start();
    }
  }
}

/** Ends all failures, waits until every device has sent and received everything, and reads what all have. */
async function settle(devices: StormDevice[], servers: Server[], user: string): Promise<Outcome> {
  for (const { network } of devices) Object.assign(network.weather, { isCut: false, delayMs: 0, lostAnswers: 0 });
  const states: Awaited<ReturnType<App['state']>>[] = [];
  // Twice: what one device sends the other has to receive.
  for (const isLast of [false, true]) for (const device of devices) states[device.number] = await settleDevice(device, isLast);
  const refused: RefusedEvent[] = states.flatMap((state, device) => state.refused.map((write) => ({ ...write, device })));
  return { devices: states.map(({ events }) => events as StoredEvent[]), server: await storedEvents(servers[0]!, user), refused };
}

/** A frozen leader is replaced within 10 s; two more for the new one to begin. */
const LEADER_WITHIN_MS = 12_000;

/** Checks that one tab leads, also while the others are frozen, and no more than one when they go on. */
async function checkLeader(device: StormDevice): Promise<void> {
  const count = async () => {
    const leads = await Promise.all(device.tabs.filter(({ isFrozen }) => !isFrozen).map(({ page }) => inPage(page, () => globalThis.app.isLeader(), undefined)));
    return leads.filter((isLeader) => isLeader === true).length;
  };
  const deadline = Date.now() + LEADER_WITHIN_MS;
  const isOne = async (until: number) => {
    for (let leaders = await count(); leaders !== 1; leaders = await count()) {
      if (Date.now() > until) throw new Error(`device ${device.number} has ${leaders} leaders; its pages report ${JSON.stringify(device.errors)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await isOne(deadline);
  device.thaw();
  await isOne(Date.now() + LEADER_WITHIN_MS);
}

/** Waits in a fresh tab, beside whatever tabs there still are. */
async function settleDevice(device: StormDevice, isLast: boolean) {
  await device.dropDeadTabs();
  const { page } = await device.openTab();
  await inPage(page, (ms: number) => globalThis.app.setClock(ms), 0);
  await checkLeader(device);
  const since = Date.now();
  const deadline = since + SETTLED_WITHIN_MS;
  for (;;) {
    await inPage(page, () => globalThis.app.sync(), undefined);
    const state = await inPage(page, () => globalThis.app.state(), undefined);
    if (state && state.status.pending === 0 && (state.status.lastSyncedAt ?? 0) > since) {
      const verified = isLast && await inPage(page, () => globalThis.app.verify(), undefined, 20_000);
      if (isLast && (!verified || JSON.stringify(verified.differing) !== '{"EVENT":[],"EVENT_TYPE":[]}')) throw new Error(`device ${device.number} differs from the server: ${JSON.stringify(verified)}`);
      await within('closing a tab', page.close(), BRIEF_MS).catch(() => {});
      device.tabs.pop();
      return state;
    }
    if (Date.now() > deadline) throw new Error(`device ${device.number} is not settled: ${JSON.stringify(state?.status)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function storedEvents(server: Server, user: string): Promise<StoredEvent[]> {
  const found: StoredEvent[] = [];
  for (let after: string | null = null; ;) {
    const { events }: { events: { nodes: any[]; pageInfo: { hasNextPage: boolean; endCursor: string } } } = await server.ask(user, `query($after: String) {
      events(first: 1000, after: $after) { nodes { id version notes timeZone properties } pageInfo { hasNextPage endCursor } } }`, { after });
    found.push(...events.nodes.map(({ properties, ...event }) => ({ ...event, token: properties.token })));
    if (!events.pageInfo.hasNextPage) return found;
    after = events.pageInfo.endCursor;
  }
}

