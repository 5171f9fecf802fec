/** What TypeScript sources import, by the compiler's own parser. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';

export interface Import {
  /** Path of the importing source from the repository's root, such as src/core/ledger.ts. */
  readonly from: string;
  /** Path of the imported source, or a package's or built-in module's name as written. */
  readonly to: string;
  /** Of this repository, by a relative path. */
  readonly own: boolean;
  /** Vanishes when compiled. */
  readonly typeOnly: boolean;
}

/** The sources below these folders, as paths from `root`. A folder that does not exist has none. */
export function sourcesIn(root: string, folders: readonly string[]): string[] {
  return folders.flatMap((folder) => {
    let entries: string[];
    try {
      entries = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
    } catch {
      return [];
    }
    return entries.filter((entry) => entry.endsWith('.ts')).map((entry) => join(folder, entry));
  });
}

export function importsOfFile(root: string, file: string): Import[] {
  return importsIn(file, readFileSync(join(root, file), 'utf8'));
}

/** Static and dynamic imports, re-exports and `import('…').T` types, in the order they stand. */
export function importsIn(file: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (!specifier || !ts.isStringLiteralLike(specifier)) {
      throw new Error(`${file}: an import of something computed cannot be judged`);
    }
    const own = specifier.text.startsWith('.');
    const to = own ? normalize(join(dirname(file), specifier.text)).replace(/\.js$/, '.ts') : specifier.text;
    found.push({ from: file, to, own, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeOnly(node.importClause));
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier) add(node.moduleSpecifier, isTypeOnly(node));
    else if (ts.isImportTypeNode(node))
      add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, true);
    else if (ts.isExternalModuleReference(node)) add(node.expression, false);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest));
  return found;
}

/** `import type`, or every single name marked as a type. */
function isTypeOnly(clause: ts.ImportClause | ts.ExportDeclaration | undefined): boolean {
  if (!clause) return false;
  if (ts.isExportDeclaration(clause)) return clause.isTypeOnly || allTypes(clause.exportClause);
  return clause.phaseModifier === ts.SyntaxKind.TypeKeyword || (!clause.name && allTypes(clause.namedBindings));
}

function allTypes(names: ts.NamedImportBindings | ts.NamedExportBindings | undefined): boolean {
  if (!names || !(ts.isNamedImports(names) || ts.isNamedExports(names)) || names.elements.length === 0) return false;
  return (names.elements as readonly (ts.ImportSpecifier | ts.ExportSpecifier)[]).every((each) => each.isTypeOnly);
}
