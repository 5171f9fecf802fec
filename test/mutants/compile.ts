import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

export interface Compiled {
  /** Below the folder of compiled files. */
  readonly file: string;
  readonly text: string;
}

/**
 * Compiles single files of the repository with other texts than they have. Types are checked in the changed files, as a
 * mistake that the compiler finds needs no test; what is used no more is no error, since taking a check away leaves that.
 */
export class Compiler {
  readonly #root: string;
  readonly #service: ts.LanguageService;
  readonly #changed = new Map<string, { readonly text: string; readonly version: number }>();
  readonly #known = new Map<string, string>();
  #version = 0;

  constructor(root: string) {
    this.#root = root;
    const read = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
    const { options, fileNames } = ts.parseJsonConfigFileContent(read.config, ts.sys, root);
    const settings = { ...options, noUnusedLocals: false, noUnusedParameters: false, incremental: false };
    delete settings.tsBuildInfoFile;
    const textOf = (path: string): string | undefined => {
      const changed = this.#changed.get(path);
      if (changed !== undefined) return changed.text;
      if (!this.#known.has(path) && ts.sys.fileExists(path)) this.#known.set(path, readFileSync(path, 'utf8'));
      return this.#known.get(path);
    };
    this.#service = ts.createLanguageService({
      getCompilationSettings: () => settings,
      getScriptFileNames: () => fileNames,
      getScriptVersion: (path) => String(this.#changed.get(path)?.version ?? 0),
      getScriptSnapshot: (path) => {
        const text = textOf(path);
        return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
      },
      getCurrentDirectory: () => root,
      getDefaultLibFileName: ts.getDefaultLibFilePath,
      fileExists: ts.sys.fileExists,
      readFile: ts.sys.readFile,
      directoryExists: ts.sys.directoryExists,
      getDirectories: ts.sys.getDirectories,
    });
  }

  /** Throws with what the compiler says. */
  compile(changes: ReadonlyMap<string, string>): readonly Compiled[] {
    this.#changed.clear();
    const paths = [...changes.keys()].map((file) => join(this.#root, file));
    for (const [file, text] of changes) this.#changed.set(join(this.#root, file), { text, version: ++this.#version });
    for (const path of paths) {
      const [first] = [...this.#service.getSyntacticDiagnostics(path), ...this.#service.getSemanticDiagnostics(path)];
      if (first !== undefined) throw new Error(ts.flattenDiagnosticMessageText(first.messageText, '\n'));
    }
    const { outDir = this.#root } = this.#service.getProgram()?.getCompilerOptions() ?? {};
    return paths.flatMap((path) =>
      this.#service
        .getEmitOutput(path)
        .outputFiles.map(({ name, text }) => ({ file: name.slice(outDir.length + 1), text })),
    );
  }
}
