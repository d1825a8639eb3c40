// Faults that storms must find: each breaks one rule of the kit.
import type { Fault } from './bundle.js';

export const FAULTS: Fault[] = [
  {
    name: 'no leader lock',
    changes: [
      { file: 'tabs/leader.ts', from: "if (typeof navigator === 'undefined' || !navigator.locks) {", to: 'if (true) {' },
      // Without a lock each tab is a leader of its own, so nothing may tell them that another has begun.
      { file: 'sync/device.ts', from: 'if (term !== undefined && stored?.term !== term) throw new DeposedError();', to: '' },
    ],
  },
  {
    name: 'outbox entry not in the transaction of its row',
    changes: [{
      file: 'sync/device.ts',
      from: '      await tx.apply(changes);\n',
      to: `      await tx.apply(term === undefined ? { ...changes, entries: [] } : changes);
      if (term === undefined) setTimeout(() => this.storage.write(async (later) => later.apply({ ...changes, rows: [], removedRows: [], installation: (await later.installation())! })), 30);
`,
    }],
  },
  {
    name: 'cursor stored before its page',
    changes: [{
      file: 'sync/pull.ts',
      from: "  const rows = page.changes.map(({ entityId }) => entityId);\n",
      to: `  await device.commit({}, (copy) => { if (copy.installation.cursor === cursor) copy.installation.cursor = page.cursor; }, { term });
  await new Promise((resolve) => setTimeout(resolve, 20));
  const rows = page.changes.map(({ entityId }) => entityId);
`,
    }, { file: 'sync/pull.ts', from: 'if (copy.installation.cursor !== cursor) return null;', to: '' }],
  },
  {
    name: 'counter of edit ids in memory alone',
    changes: [
      { file: 'sync/device.ts', from: 'newEditId: (last) => editIdAfter(last, nowMs)', to: 'newEditId: () => (this.lastEdit = editIdAfter(this.lastEdit, nowMs))' },
      { file: 'sync/device.ts', from: 'readonly newId: () => string;', to: 'readonly newId: () => string;\n  lastEdit: string | null = null;' },
    ],
  },
  {
    name: 'refused write dropped',
    changes: [{ file: 'core/copy.ts', from: '    this.putRefusal(refusal);\n    this.notices.push', to: '    this.notices.push' }],
  },
];
