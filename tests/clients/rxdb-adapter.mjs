// RxDB 17 on Idem: one collection holds events and types, for RxDB ends a pull at the first page not full.
import { replicateGraphQL } from 'rxdb/plugins/replication-graphql';

const FIELDS = { EVENT: ['eventTypeId', 'timestamp', 'notes'], EVENT_TYPE: ['name', 'color'] };
const [EVENT, TYPE] = [FIELDS.EVENT, FIELDS.EVENT_TYPE].map((names) => `{ id createdAt ${names.join(' ')} }`);
const PULL = `query($after: Cursor, $first: Int!) { changes(after: $after, first: $first) {
  cursor reset changes { entity entityId version deleted event ${EVENT} eventType ${TYPE} } } }`;
const PUSH = `mutation($input: ApplyMutationsInput!) { applyMutations(input: $input) { results {
  outcome differs version problem { code detail retryable retryAfterMs }
  ... on EventResult { event ${EVENT} } ... on EventTypeResult { eventType ${TYPE} } } } }`;
const STREAM = 'subscription($after: Cursor) { changes(after: $after) { cursor } }';
const HEAD = JSON.stringify({ query: '{ syncStatus { headCursor } }' });
const [text, maybe] = [{ type: 'string' }, { type: ['string', 'null'] }];
/** `version` is 1 in a new row, `createdAt` is there once the server has told of it, `editId` is of the last edit. */
export const schema = {
  version: 0, type: 'object', primaryKey: 'id', required: ['id', 'entity', 'version'],
  properties: { id: { type: 'string', maxLength: 36 }, version: { type: 'integer' }, entity: text, editId: text,
    createdAt: text, eventTypeId: text, timestamp: text, name: text, notes: maybe, color: maybe },
};
/** This device's edit wins: it is sent again, on the version that beat it. A deletion wins over any edit. */
export const conflictHandler = {
  isEqual: (a, b) => ['version', 'editId', '_deleted', 'createdAt'].every((name) => a[name] === b[name]),
  resolve: ({ newDocumentState: mine, realMasterState: theirs }) =>
    theirs._deleted ? theirs : { ...mine, version: theirs.version, createdAt: theirs.createdAt },
};
/** A change of a row as the server takes it. Without `createdAt` the server may not have it: create, which is safe. */
function toMutation({ newDocumentState: now, assumedMasterState: before }) {
  const kind = now.entity === 'EVENT' ? 'Event' : 'EventType';
  const patch = Object.fromEntries(FIELDS[now.entity].map((name) => [name, now[name]]));
  const guard = { id: now.id, expectedVersion: before?.version ?? now.version, editId: now.editId };
  if (now._deleted) return { [`delete${kind}`]: guard };
  return now.createdAt ? { [`update${kind}`]: { ...guard, patch } } : { [`create${kind}`]: { id: now.id, ...patch } };
}
/** What RxDB must merge a sent row with; nothing when the server has it as sent, or refused it. */
function toConflict({ id, entity, _deleted }, { outcome, differs, version, event, eventType }) {
  const found = event ?? eventType;
  // Known under another id, which the feed brings: this one goes.
  const gone = outcome === 'DELETED' ? !_deleted : found && found.id !== id;
  return gone || outcome === 'CONFLICT' || (outcome === 'DUPLICATE' && differs) ? [{ ...(gone ? {} : found), id, entity, version, _deleted: Boolean(gone) }] : [];
}
/** After `onReset` cancel and start with a new `identifier`: RxDB sends and pulls all rows anew. */
export function replicateIdem({ collection, url, socket, fetch, token, clientId, identifier, onRejected, onReset }) {
  let head, pulled, bare, begun, sent = [];
  const firstPage = new Promise((done) => { begun = done; });
  // The ids of each push that is under way, by what RxDB does until it has put down the answer; and of those that
  // the pull which is under way has met.
  const pushes = new Map();
  let met = new Map();
  const pull = {
    batchSize: 500, includeWsHeaders: true,
    queryBuilder: (checkpoint, first) => {
      met = new Map(pushes);
      // RxDB keeps no checkpoint of a page without rows, and what begins anew is not told of deletions.
      return { query: PULL, variables: { after: checkpoint?.cursor ?? bare, first } };
    },
    // It only says when to pull: the cursor of the pull is the truth.
    streamQueryBuilder: () => ({ query: STREAM, variables: { get after() { return pulled ?? head; } } }),
    responseModifier: ({ changes, cursor, reset }, origin, checkpoint) => {
      if (origin === 'stream') return 'RESYNC';
      // A pull may bring a row that is being pushed. It may be older than the push, and RxDB would take it, or
      // newer, and RxDB would ignore it. So the row is pulled again after the push.
      const behind = [...met.keys()].filter((up) => changes.some(({ entityId }) => met.get(up).has(entityId)));
      if (behind.length > 0) {
        Promise.allSettled(behind).then(() => state.reSync());
        return { documents: [], checkpoint };
      }
      if (reset) onReset(reset);
      if (changes.length === 0) bare = cursor;
      pulled = cursor;
      begun();
      const documents = changes.map(({ entityId: id, deleted: _deleted, event, eventType, ...change }) =>
        ({ ...(event ?? eventType), id, entity: change.entity, version: change.version, _deleted }));
      return { documents, checkpoint: { cursor } };
    },
  };
  const push = {
    queryBuilder: (rows) => {
      // Types first: an event may name one that was made with it.
      sent = rows.toSorted((a, b) => b.newDocumentState.entity.localeCompare(a.newDocumentState.entity));
      const { up } = state.internalReplicationState.streamQueue;
      const ids = pushes.get(up) ?? new Set();
      const settle = () => pushes.delete(up);
      up.then(settle, settle);
      rows.forEach(({ newDocumentState }) => ids.add(newDocumentState.id));
      for (const known of [pushes, met]) known.set(up, ids);
      return { query: PUSH, variables: { input: { clientId, mutations: sent.map(toMutation) } } };
    },
    responseModifier: ({ results }) => results.flatMap((result, place) => {
      const row = sent[place].newDocumentState;
      const fine = row._deleted && result.problem?.code === 'NOT_FOUND'; // made and removed before it was sent
      if (result.outcome === 'REJECTED' && !fine) onRejected(row, result.problem);
      return toConflict(row, result);
    }),
  };
  const headers = { authorization: `Bearer ${token}` };
  const common = { collection, fetch, replicationIdentifier: identifier, headers, autoStart: false };
  const state = replicateGraphQL({ ...common, url: { http: url, ws: socket }, pull, push });
  // RxDB sends all batches of a push at once; an answer has the places of one, and behind one that fails all fail,
  // for they may need what it makes. The first waits for a page: what begins anew is not told of deletions, not
  // even of what this device has pushed.
  const { handler } = state.push;
  let last = firstPage;
  state.push.handler = (rows) => {
    const turn = last.then(() => handler(rows));
    last = turn;
    turn.catch(() => { if (last === turn) last = firstPage; });
    return turn;
  };
  // The stream begins before the first pull does, so that nothing falls between the two.
  const stop = new AbortController();
  const ask = { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: HEAD, signal: stop.signal };
  const started = (fetch ?? globalThis.fetch)(url, ask).then((answer) => answer.json())
    .then(({ data }) => { head = data.syncStatus.headCursor; }).catch(() => {}).then(() => state.start());
  // RxDB releases a socket at each cancel, also at a second one and if it never opened a socket.
  const cancel = state.cancel.bind(state);
  const end = async () => {
    stop.abort();
    await started.catch(() => {});
    return cancel();
  };
  let ended;
  state.cancel = () => (ended ??= end());
  return state;
}
