// The worker that hashes one file.

import { type HashAnswer, type HashRequest, hashHere } from './hash.js';

const answer = (message: HashAnswer) => globalThis.postMessage(message);

globalThis.onmessage = ({ data }: MessageEvent<HashRequest>) => {
  hashHere(data, (done) => answer({ done })).then((hash) => answer({ hash }), (error: unknown) => answer({ error: String(error) }));
};
