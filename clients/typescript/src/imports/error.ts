import type { Problem } from '../core/model.js';

/** The server does not take the import. */
export class ImportError extends Error {
  override readonly name = 'ImportError';
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.code);
  }
}
