// Carries messages between the tabs of one user, and between a page and its workers.

export interface Channel<M> {
  post(message: M): void;
  close(): void;
}

/** Opens the channel with this name. Where there are no other tabs, nothing arrives and nothing is sent. */
export function openChannel<M>(name: string, onMessage: (message: M) => void): Channel<M> {
  if (typeof BroadcastChannel === 'undefined') return { post: () => {}, close: () => {} };
  const channel = new BroadcastChannel(name);
  channel.onmessage = (event: MessageEvent<M>) => onMessage(event.data);
  // In Node, an open channel keeps the process alive.
  (channel as { unref?: () => void }).unref?.();
  return { post: (message) => channel.postMessage(message), close: () => channel.close() };
}
