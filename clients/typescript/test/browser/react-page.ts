// A page that shows what the hooks for React give. It runs in the browser.
import { createElement } from 'react';
import { createRoot } from 'react-dom/client';

import { createIdem } from '../../src/index.js';
import { useEventTypes, useEvents, useRefused, useSyncStatus } from '../../src/react/index.js';

const { subject, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1))) as { subject: string; token: string };
const idem = createIdem({ url: location.origin, subject, token: () => token });

function Diary() {
  const { events, hasMore, loadMore } = useEvents(idem, { limit: 2 });
  const types = useEventTypes(idem);
  const refused = useRefused(idem);
  const { online, pending } = useSyncStatus(idem);
  const add = async (notes: string) => {
    const { id } = types?.[0] ?? await idem.types.create({ name: 'Run' });
    await idem.events.create({ eventTypeId: id, timestamp: new Date(), notes });
  };
  const shown = { events: events?.map(({ notes }) => notes), hasMore, types: types?.length, refused: refused?.map(({ problem }) => problem.code), online, pending };
  return createElement('div', null,
    createElement('pre', null, JSON.stringify(shown)),
    createElement('button', { onClick: () => add(`event ${events?.length}`) }, 'add'),
    createElement('button', { onClick: () => add('x'.repeat(10_001)) }, 'add too much'),
    createElement('button', { onClick: () => loadMore(10) }, 'more'));
}

createRoot(document.body.appendChild(document.createElement('main'))).render(createElement(Diary));
