/**
 * Run on the client's machine: `poll.js <url> <address>`. Asks for the page every 20 ms, each time by a new connection, and keeps when
 * an answer came that the server says went to that address: by way of the exit, and not past the tunnel. At SIGTERM it prints those moments
 * (CLOCK_MONOTONIC, ms) as one line of JSON.
 */
import { get } from 'node:http';

const [url = '', address = ''] = process.argv.slice(2);
const EVERY_MS = 20;
const LIMIT_MS = 1_000;
/** So that a dead path does not pile them up. */
const MOST_UNDER_WAY = 60;

const answered: number[] = [];
let underWay = 0;

function ask(): void {
  if (underWay >= MOST_UNDER_WAY) return;
  underWay++;
  const request = get(url, { agent: false, timeout: LIMIT_MS }, (response) => {
    const at = Number(process.hrtime.bigint()) / 1e6;
    let body = '';
    response.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    response.on('end', () => {
      if (body.includes(`"${address}"`)) answered.push(at);
    });
    response.on('error', () => undefined);
  });
  const limit = setTimeout(() => request.destroy(), LIMIT_MS);
  request.on('error', () => undefined);
  request.on('close', () => {
    clearTimeout(limit);
    underWay--;
  });
}

setInterval(ask, EVERY_MS);
process.on('SIGTERM', () => {
  console.log(JSON.stringify(answered.sort((a, b) => a - b).map((at) => Math.round(at * 10) / 10)));
  process.exit(0);
});
console.log('polling');
