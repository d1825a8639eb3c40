// The writes that the server refused for good: an app shows them, and the user corrects or discards them.

import type { Context, Entity, Fields, Kind, Problem, Refusal } from '../core/model.js';
import type { Copy } from '../core/copy.js';
import { entityOf } from '../core/model.js';
import { discard, sendAgain } from '../core/write.js';
import type { Device } from '../sync/device.js';

/** A write that the server refused. */
export interface RefusedWrite {
  /** Names this write in the list. */
  readonly key: number;
  readonly entity: Entity;
  /** The event or event type that it is about. */
  readonly id: string;
  readonly kind: Kind;
  /** What was sent: the new event or event type, or the fields that were changed. */
  readonly fields: Fields;
  readonly problem: Problem;
  /** When the refusal arrived. */
  readonly at: Date;
}

export function refusedWrite({ seq, id, kind, input, problem, at }: Refusal): RefusedWrite {
  const fields = (input.patch ?? input.event ?? (kind.startsWith('create') ? input : {})) as Fields;
  return { key: seq, entity: entityOf(kind), id, kind, fields, problem, at: new Date(at) };
}

export class RefusedWrites {
  constructor(private readonly device: Device, private readonly onQueued: () => void) {}

  /** All refused writes, oldest first. */
  async list(): Promise<RefusedWrite[]> {
    return (await this.device.storage.read((tx) => tx.refusals())).map(refusedWrite);
  }

  /** Sends a refused write again, with these fields changed. What was refused because it needs this one goes with it. */
  async sendAgain(key: number, changes: Fields = {}): Promise<void> {
    await this.#withRefusal(key, (copy, refusal, context) => sendAgain(copy, refusal, changes, context));
    this.onQueued();
  }

  /** Forgets a refused write. An event that the server refused to create goes with it. */
  async discard(key: number): Promise<void> {
    await this.#withRefusal(key, discard);
  }

  async #withRefusal(key: number, rule: (copy: Copy, refusal: Refusal, context: Context) => void): Promise<void> {
    await this.device.commit(async (tx) => {
      const refusals = await tx.refusals();
      const ids = refusals.map(({ id }) => id);
      return { rows: await tx.rows(ids), entries: await tx.entriesAbout(ids), refusals };
    }, (copy, context) => {
      const refusal = copy.refusals().find(({ seq }) => seq === key);
      if (refusal) rule(copy, refusal, context);
    });
  }
}
