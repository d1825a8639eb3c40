// Calls functions of the app. What they throw is the app's: it is reported as not caught, and stops nothing here.

export function callApp<A extends unknown[]>(callback: ((...values: A) => void) | undefined, ...values: A): void {
  try {
    callback?.(...values);
  } catch (error) {
    reportUncaught(error);
  }
}

/** Reports an error as one that nobody has caught: browsers and Node show it, and monitoring tools see it. */
export function reportUncaught(error: unknown): void {
  queueMicrotask(() => { throw error; });
}
