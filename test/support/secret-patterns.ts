/** What keys, tokens and passwords look like when somebody leaves one in a file. */
export interface FoundSecret {
  readonly what: string;
  readonly line: number;
  readonly text: string;
}

const PATTERNS: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: 'a private key in PEM', pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\\n]+[A-Za-z0-9+/]{16,}/g },
  { what: 'a join token', pattern: /\bvpnd1[a-z2-7]{24,}/gi },
  { what: '32 bytes in base64', pattern: /(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?!=)/g },
  { what: '32 bytes or more in hexadecimal', pattern: /(?<![0-9a-zA-Z])(?:0x)?[0-9a-fA-F]{64,}(?![0-9a-zA-Z])/g },
  { what: 'a list of bytes', pattern: /(?:\b(?:0x[0-9a-f]{1,2}|\d{1,3})\s*,\s*){15,}(?:0x[0-9a-f]{1,2}|\d{1,3})\b/gi },
  {
    what: 'a secret by its name',
    pattern:
      /\b\w*(?:password|passwd|secret|api_?key|private_?key|preshared_?key|access_?key|auth_?token|seed)\w*["']?\s*[:=]\s*(["'`])(?!\1)[^"'`\s$<>{}]{8,}\1/gi,
  },
  { what: 'a token of a service', pattern: /\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|xox[abp]-[\w-]{20,})/g },
];

export function secretsIn(text: string): readonly FoundSecret[] {
  return PATTERNS.flatMap(({ what, pattern }) =>
    [...text.matchAll(pattern)].map(({ 0: found, index }) => ({
      what,
      line: text.slice(0, index).split('\n').length,
      text: found,
    })),
  );
}
