/** Lets watchers wait for the next change of something. */
export class Changes {
  #waiting = new Set<() => void>();

  /** Something changed: everybody who waits goes on. */
  notify(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const resume of waiting) resume();
  }

  /** Resolves at the next change, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const resume = () => {
        signal.removeEventListener('abort', resume);
        this.#waiting.delete(resume);
        resolve();
      };
      this.#waiting.add(resume);
      signal.addEventListener('abort', resume);
    });
  }
}
