/** Where sources compare bytes or secrets with operators of the language, by the compiler's own types. */
import { join } from 'node:path';
import ts from 'typescript';

export interface Comparison {
  readonly file: string;
  readonly line: number;
  /** The comparison as it stands in the source. */
  readonly text: string;
  readonly why: string;
}

const COMPARING: ReadonlySet<ts.SyntaxKind> = new Set([
  ts.SyntaxKind.EqualsEqualsEqualsToken,
  ts.SyntaxKind.ExclamationEqualsEqualsToken,
  ts.SyntaxKind.EqualsEqualsToken,
  ts.SyntaxKind.ExclamationEqualsToken,
  ts.SyntaxKind.LessThanToken,
  ts.SyntaxKind.GreaterThanToken,
  ts.SyntaxKind.LessThanEqualsToken,
  ts.SyntaxKind.GreaterThanEqualsToken,
]);
/** Methods that stop at the first difference, or hash what they are asked for. */
const COMPARING_METHODS: ReadonlySet<string> = new Set([
  'equals',
  'compare',
  'includes',
  'indexOf',
  'startsWith',
  'endsWith',
  'localeCompare',
]);
/** Values of these types are secret as a whole. */
const SECRET_TYPES: ReadonlySet<string> = new Set(['WireGuardPrivateKey']);
/** Fields and variables of these names hold secrets, whatever their type. */
const SECRET_NAMES = /^(?:.*(?:[sS]ecret|[pP]rivateKey|[pP]resharedKey|[pP]robeToken)|psk|seed|secretHash)$/;
/** Bytes written out as text are bytes all the same. */
const ENCODERS: ReadonlySet<string> = new Set(['toHex', 'toBase64', 'toBase32', 'tokenHash', 'hashTokenSecret']);

/** All such comparisons in these sources (paths from `root`), except with `undefined`, `null` and literals. */
export function suspiciousComparisons(
  root: string,
  files: readonly string[],
  options: ts.CompilerOptions,
): readonly Comparison[] {
  const program = ts.createProgram(
    files.map((file) => join(root, file)),
    { ...options, noEmit: true, incremental: false, composite: false },
  );
  const checker = program.getTypeChecker();
  return files.flatMap((file) => {
    const source = program.getSourceFile(join(root, file));
    return source === undefined ? [] : comparisonsIn(source, file, checker);
  });
}

function comparisonsIn(source: ts.SourceFile, file: string, checker: ts.TypeChecker): readonly Comparison[] {
  const found: Comparison[] = [];
  const report = (node: ts.Node, why: string | undefined): void => {
    if (why === undefined) return;
    const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
    found.push({ file, line: line + 1, text: node.getText(source).replace(/\s+/g, ' '), why });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isBinaryExpression(node) && COMPARING.has(node.operatorToken.kind)) {
      const sides = [node.left, node.right];
      if (!sides.some(isHarmless)) report(node, sides.map((side) => secrecy(side, checker)).find(Boolean));
    } else if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { expression, name } = node.expression;
      const [argument] = node.arguments;
      if (COMPARING_METHODS.has(name.text) && argument !== undefined && !isHarmless(argument))
        report(node, [expression, argument].map((side) => secrecy(side, checker)).find(Boolean));
    } else if (ts.isSwitchStatement(node)) report(node.expression, secrecy(node.expression, checker));
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** Whether a thing is there, and whether it is empty, tells nothing about what it is. */
function isHarmless(node: ts.Expression): boolean {
  return (
    ts.isLiteralExpression(node) ||
    node.kind === ts.SyntaxKind.NullKeyword ||
    node.kind === ts.SyntaxKind.TrueKeyword ||
    node.kind === ts.SyntaxKind.FalseKeyword ||
    (ts.isIdentifier(node) && node.text === 'undefined')
  );
}

function secrecy(node: ts.Expression, checker: ts.TypeChecker): string | undefined {
  const inner = ts.isParenthesizedExpression(node) || ts.isAwaitExpression(node) ? node.expression : node;
  const type = checker.getTypeAtLocation(inner);
  const parts = type.isUnion() ? type.types : [type];
  for (const part of parts) {
    const name = part.aliasSymbol?.name ?? part.symbol?.name ?? '';
    if (name === 'Uint8Array' || name === 'Buffer' || name === 'ArrayBuffer')
      return 'bytes are compared by identity or in variable time';
    if (SECRET_TYPES.has(name)) return `a ${name} is compared in variable time`;
  }
  if (type.aliasSymbol !== undefined && SECRET_TYPES.has(type.aliasSymbol.name))
    return `a ${type.aliasSymbol.name} is compared in variable time`;
  if (ts.isCallExpression(inner) && ENCODERS.has(calledName(inner)))
    return 'bytes are compared as text, in variable time';
  const holdsText = parts.some((part) => (part.flags & ts.TypeFlags.StringLike) !== 0);
  if (holdsText && SECRET_NAMES.test(nameOf(inner))) return `${nameOf(inner)} is compared in variable time`;
  return undefined;
}

const calledName = ({ expression }: ts.CallExpression): string => nameOf(expression);

const nameOf = (node: ts.Expression): string =>
  ts.isIdentifier(node) ? node.text : ts.isPropertyAccessExpression(node) ? node.name.text : '';
