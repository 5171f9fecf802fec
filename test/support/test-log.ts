import type { Log, LogFields } from '../../src/core/ports/log.js';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly text: string;
  readonly fields: LogFields;
}

/** A log that keeps its lines, so that a test can look at what was said, and at what must not have been. */
export interface TestLog extends Log {
  readonly lines: readonly LogLine[];
}

export function testLog(): TestLog {
  const lines: LogLine[] = [];
  const with_ = (inherited: LogFields): TestLog => {
    const write =
      (level: LogLine['level']) =>
      (text: string, fields: LogFields = {}) =>
        void lines.push({ level, text, fields: { ...inherited, ...fields } });
    return {
      lines,
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      child: (fields) => with_({ ...inherited, ...fields }),
    };
  };
  return with_({});
}
