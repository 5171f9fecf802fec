import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createLab, type Host, type Spawned } from '../../chaos/lab/index.js';
import type { NetworkState } from '../../src/core/ports/network-watch.js';

t.setTimeout(200_000);

const WATCH = fileURLToPath(new URL('../support/namespace-watch.js', import.meta.url));

/** What a watch on a host says. */
class Heard {
  readonly process: Spawned;
  readonly #lines: string[] = [];
  #wake = () => {};

  constructor(on: Host) {
    const onLine = (line: string) => {
      this.#lines.push(line);
      this.#wake();
    };
    this.process = on.spawn([process.execPath, '--enable-source-maps', WATCH], { onLine });
  }

  /** The next state that is like this; others before it may come and go. */
  async until(like: (state: NetworkState) => boolean = () => true): Promise<NetworkState> {
    const late = AbortSignal.timeout(15_000);
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) {
        const state = JSON.parse(line) as NetworkState;
        if (like(state)) return state;
        continue;
      }
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        late.addEventListener('abort', () => reject(new Error(`heard only ${this.process.lines().join('\n')}`)));
      });
    }
  }
}

const monitors = async (host: Host): Promise<readonly number[]> => {
  const lists = await Promise.all(
    host.pids().map(async (pid) => {
      const { stdout } = await host.run(['cat', `/proc/${pid}/cmdline`]);
      return stdout.split('\0')[1] === 'monitor' ? [pid] : [];
    }),
  );
  return lists.flat();
};

t.test('a machine hears of its networks changing', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const [home, other] = await Promise.all([
    lab.home('home', { nat: 'port-preserving', publicIpv4: '198.51.100.20', ipv6: '2001:db8:20::/64' }),
    lab.home('other', { nat: 'port-preserving', publicIpv4: '198.51.100.30', lan: '192.168.30.0/24' }),
  ]);
  const host = await home.host('laptop');
  const heard = new Heard(host);
  const first = await heard.until();
  t.match(first, {
    connected: true,
    fingerprint: /IPv4 192\.168\.1\.1 eth0 192\.168\.1\.2; IPv6 .*eth0 2001:db8:20::2/,
  });

  t.test('another address, and the first again', async (t) => {
    await host.ip('addr add 192.168.1.77/24 dev eth0');
    t.match(await heard.until(({ fingerprint }) => fingerprint.includes('192.168.1.77')), { connected: true });
    await host.ip('addr del 192.168.1.77/24 dev eth0');
    t.same(await heard.until(), first);
  });

  t.test('the cable out and in again', async (t) => {
    await host.unplug();
    t.same(await heard.until(), { connected: false, fingerprint: '' });
    await host.replug();
    t.same(await heard.until(({ connected }) => connected), first);
  });

  t.test('from one network to a better one, and back when that goes', async (t) => {
    await host.ip('route add default via 192.168.1.1 dev eth0 metric 600', 'route del default metric 0');
    await other.connect(host, { device: 'wlan0', metric: 50 });
    const second = await heard.until(({ fingerprint }) => fingerprint.includes('wlan0'));
    t.match(second.fingerprint, /IPv4 192\.168\.30\.1 wlan0 192\.168\.30\.2; IPv6/);
    await host.removeCard('wlan0');
    t.same(await heard.until(({ fingerprint }) => !fingerprint.includes('wlan0')), first);
  });

  t.test('tunnels, and routes to somewhere in particular, are no news', async (t) => {
    await host.ip(
      'link add wg-client type veth peer name wg-other',
      'link set wg-client up',
      'addr add 10.200.0.2/32 dev wg-client',
      'route add default dev wg-client table 51820 proto 118',
      'route add default dev wg-client metric 5',
      'route add 203.0.113.0/24 via 192.168.1.1',
    );
    await host.ip('addr add 192.168.1.78/24 dev eth0');
    const next = await heard.until();
    t.match(next.fingerprint, '192.168.1.78', 'the first thing that is news');
    t.notMatch(next.fingerprint, 'wg-client');
    await host.ip('link del wg-client', 'addr del 192.168.1.78/24 dev eth0');
    t.same(await heard.until(), first);
  });

  t.test('somebody ends the program that watches, and it watches again', async (t) => {
    const [monitor] = await monitors(host);
    t.ok(monitor);
    process.kill(monitor ?? 0, 'SIGKILL');
    await host.ip('addr add 192.168.1.79/24 dev eth0');
    t.match(await heard.until(), { fingerprint: /192\.168\.1\.79/ });
    await host.ip('addr del 192.168.1.79/24 dev eth0');
    t.same(await heard.until(), first);
  });

  t.test('closed, it leaves nothing running', async (t) => {
    t.equal((await monitors(host)).length, 1);
    heard.process.kill('SIGTERM');
    t.same(await heard.process.exited, { code: 0, signal: undefined });
    t.equal(heard.process.lines().at(-1), 'closed');
    t.same(await monitors(host), []);
  });
});
