// A device of a user: the kit on a storage, and a network that a test can cut.
import { type Idem, type IdemOptions, type RefusedWrite, createIdem } from '../../src/index.js';
import { memoryStorage } from '../../src/storage/index.js';
import { type Server, eventually, tokenOf } from './server.js';

/** What happens to a request: it is sent, and a test may fail it before or after. */
export type Network = (send: (body?: string) => Promise<Response>, request: { url: string; body: string }) => Promise<Response>;

export const connected: Network = (send) => send();
export const cut: Network = () => Promise.reject(new TypeError('fetch failed'));

export interface TestDevice {
  idem: Idem;
  refused: RefusedWrite[];
  renamed: { from: string; to: string }[];
  network: Network;
  /** Waits until nothing is to be sent or received. */
  settled(): Promise<void>;
  /** The events as an app shows them. */
  notes(): Promise<(string | null)[]>;
}

export const opened: TestDevice[] = [];

export function openDevice(server: Server, subject: string, options: Partial<IdemOptions> & { network?: Network } = {}): TestDevice {
  const { network = connected, ...rest } = options;
  const device: TestDevice = {
    refused: [], renamed: [], network,
    idem: undefined as unknown as Idem,
    settled: () => settled(device),
    notes: async () => (await device.idem.events.list()).map(({ notes }) => notes).sort(),
  };
  device.idem = createIdem({
    url: server.url, subject, storage: memoryStorage(), token: () => tokenOf(subject),
    onRefused: (write) => device.refused.push(write), onRenamed: (renamed) => device.renamed.push(renamed),
    fetch: async (input, init) => {
      const send = (body?: string) => fetch(input, body === undefined ? init : { ...init, body });
      return device.network(send, { url: String(input), body: String(init?.body ?? '') });
    },
    ...rest,
  });
  opened.push(device);
  return device;
}

/** Waits until all writes are answered, and a pull that began after that is complete. */
async function settled({ idem }: TestDevice): Promise<void> {
  await eventually('all writes are answered', () => idem.status.pending === 0);
  const before = idem.status.lastSyncedAt;
  idem.sync();
  await eventually('everything is received', () => idem.status.lastSyncedAt !== before && idem.status.pending === 0);
}

export function closeDevices(): void {
  for (const { idem } of opened.splice(0)) idem.close();
}
