import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { seedOf } from './random.js';
import { CACHE_VARIABLE, PLACES } from './shared.js';

/**
 * A module loader hook (node:module `register`) that puts a counter at the beginning of every function, branch and operand
 * that may not be reached, of the project's own compiled modules. V8 can tell what ran, too, but takes 3 ms a time, many times
 * what most inputs take; these counters tell after every input.
 */

const OWN = /\/(?:src|dataplane)\/(?!gen\/).*\.js$/;

interface Loaded {
  readonly format: string;
  readonly source?: string | ArrayBuffer | Uint8Array;
  readonly shortCircuit?: boolean;
}

export async function load(
  url: string,
  context: unknown,
  next: (url: string, context: unknown) => Promise<Loaded>,
): Promise<Loaded> {
  if (!url.startsWith('file:') || !OWN.test(url) || url.includes('/node_modules/')) return next(url, context);
  const path = fileURLToPath(url);
  const name = OWN.exec(path)?.[0] ?? path;
  return { format: 'module', source: cached(readFileSync(path, 'utf8'), name), shortCircuit: true };
}

function cached(source: string, name: string): string {
  const folder = process.env[CACHE_VARIABLE];
  if (folder === undefined) return instrumented(source, name);
  const path = join(folder, createHash('sha256').update(source).update(name).digest('hex'));
  try {
    return readFileSync(path, 'utf8');
  } catch {
    const made = instrumented(source, name);
    // In place whole, since the other process reads it at the same time.
    writeFileSync(`${path}.${process.pid}`, made);
    renameSync(`${path}.${process.pid}`, path);
    return made;
  }
}

/** Lines stay where they were, so that source maps still fit. */
export function instrumented(source: string, name: string): string {
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.ES2023, true, ts.ScriptKind.JS);
  const inserts: { readonly at: number; readonly text: string }[] = [];
  const count = (at: number): string => `__seen(${(seedOf(name, at) >>> 0) % PLACES})`;
  const block = (node: ts.Block): void => {
    // Behind directives, which must stay first.
    const first = node.statements.find((one) => !(ts.isExpressionStatement(one) && ts.isStringLiteral(one.expression)));
    const at = first?.getStart(file) ?? node.end - 1;
    inserts.push({ at, text: `${count(at)};` });
  };
  const expression = (node: ts.Expression): void => {
    const [at, end] = [node.getStart(file), node.end];
    inserts.push({ at, text: `(${count(at)},` }, { at: end, text: ')' });
  };
  const statement = (node: ts.Statement): void => {
    if (ts.isBlock(node)) {
      block(node);
      return;
    }
    const [at, end] = [node.getStart(file), node.end];
    inserts.push({ at, text: `{${count(at)};` }, { at: end, text: '}' });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isIfStatement(node)) {
      statement(node.thenStatement);
      if (node.elseStatement !== undefined) statement(node.elseStatement);
    } else if (ts.isIterationStatement(node, false)) statement(node.statement);
    else if (ts.isConditionalExpression(node)) {
      expression(node.whenTrue);
      expression(node.whenFalse);
    } else if (ts.isBinaryExpression(node) && isLazy(node.operatorToken.kind)) expression(node.right);
    else if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) expression(node.body);
    else if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined && ts.isBlock(node.body as ts.Node))
      block(node.body as ts.Block);
    else if (ts.isCaseOrDefaultClause(node) && node.statements.length > 0) {
      const at = node.statements[0]?.getStart(file) ?? node.end;
      inserts.push({ at, text: `${count(at)};` });
    } else if (ts.isCatchClause(node)) block(node.block);
    ts.forEachChild(node, visit);
  };
  ts.forEachChild(file, visit);
  // Of two at one place the outer one, which came first, stays outside.
  const ordered = inserts.map((one, order) => ({ ...one, order })).sort((a, b) => a.at - b.at || byNesting(a, b));
  let out = 'var __seen=globalThis.__fuzzSeen;';
  let from = 0;
  for (const { at, text } of ordered) {
    out += source.slice(from, at) + text;
    from = at;
  }
  return out + source.slice(from);
}

/** At one place: what closes goes before what opens; what was found first opens first and closes last. */
function byNesting(a: { text: string; order: number }, b: { text: string; order: number }): number {
  const closes = (text: string) => text === ')' || text === '}';
  if (closes(a.text) !== closes(b.text)) return closes(a.text) ? -1 : 1;
  return closes(a.text) ? b.order - a.order : a.order - b.order;
}

const isLazy = (kind: ts.SyntaxKind): boolean =>
  kind === ts.SyntaxKind.AmpersandAmpersandToken ||
  kind === ts.SyntaxKind.BarBarToken ||
  kind === ts.SyntaxKind.QuestionQuestionToken;
