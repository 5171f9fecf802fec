import t from 'tap';
import { disagreements, type Kernels } from '../../chaos/harness/agreement.js';
import { parseWireGuardDump, type RelayPort, type WireGuardDevice } from '../../chaos/overlay/kernel.js';

const A = '198.51.100.31';
const B = '198.51.100.32';
const EXIT_HOME = '198.51.100.101';

const device = (name: string, publicKey: string, ...peers: WireGuardDevice['peers']): WireGuardDevice => ({
  name,
  publicKey,
  peers,
});
const hop = (port: number, next: string): RelayPort => ({
  port,
  next,
  hop: next,
  out: port,
  vouched: ['198.51.100.9'],
});

/** One client over two relays to one exit, as kernels hold it; `change` says what is otherwise. */
function kernels(change: Partial<Kernels> = {}): Kernels {
  return {
    clients: [
      {
        name: 'c1',
        devices: [device('wg-client', 'CLIENT', { publicKey: 'EXIT', endpoint: `${A}:40001`, allowed: ['0.0.0.0/0'] })],
        addresses: new Map([['wg-client', ['10.200.0.5', 'fd76::5']]]),
      },
    ],
    exits: [
      {
        name: 'x1',
        devices: [
          device('wg-exit', 'EXIT', {
            publicKey: 'CLIENT',
            endpoint: `${B}:40007`,
            allowed: ['10.200.0.5/32', 'fd76::5/128'],
          }),
        ],
      },
    ],
    supernodes: [
      { name: 'a', addresses: [A], ports: [hop(40001, `${B}:40007`)] },
      { name: 'b', addresses: [B], ports: [hop(40007, `${A}:40001`)] },
    ],
    exitAddresses: [EXIT_HOME],
    ...change,
  };
}

t.test('kernels that tell one story disagree in nothing', async (t) => {
  t.same(disagreements(kernels()), []);
});

t.test('nor do those of a direct path, whose relay ports are kept for the way back', async (t) => {
  const direct = kernels().clients.map((client) => ({
    ...client,
    devices: [
      device('wg-client', 'CLIENT', { publicKey: 'EXIT', endpoint: `${EXIT_HOME}:51820`, allowed: ['0.0.0.0/0'] }),
    ],
  }));
  t.same(disagreements(kernels({ clients: direct })), []);
});

t.test('each thing that is missing, stray or doubled is told', async (t) => {
  const [exit] = kernels().exits;
  const [client] = kernels().clients;
  const [a, b] = kernels().supernodes;
  if (exit === undefined || client === undefined || a === undefined || b === undefined)
    throw new Error('all are there');
  const [own] = exit.devices[0]?.peers ?? [];
  if (own === undefined) throw new Error('it has a peer');
  const stray = { publicKey: 'NOBODY', endpoint: '', allowed: ['10.200.0.9/32'] };
  const cases: readonly [what: string, change: Partial<Kernels>, says: RegExp][] = [
    [
      'a tunnel without a peer at its exit',
      { exits: [{ ...exit, devices: [device('wg-exit', 'EXIT')] }] },
      /x1 has 0 peers for c1/,
    ],
    ['an exit without its device', { exits: [{ ...exit, devices: [] }] }, /leads to a key that no exit has/],
    [
      'a peer that is nobody’s tunnel',
      { exits: [{ ...exit, devices: [device('wg-exit', 'EXIT', own, stray)] }] },
      /x1 has peer NOBODY .*nobody's tunnel/,
    ],
    [
      'a peer with other addresses than its tunnel',
      { exits: [{ ...exit, devices: [device('wg-exit', 'EXIT', { ...own, allowed: ['10.200.0.6/32'] })] }] },
      /lets c1's tunnel wg-client use 10.200.0.6/,
    ],
    [
      'an address with two owners',
      { exits: [{ ...exit, devices: [device('wg-exit', 'EXIT', own, { ...stray, allowed: ['10.200.0.5/32'] })] }] },
      /10.200.0.5 has 2 owners/,
    ],
    ['a relay port that is gone', { supernodes: [{ ...a, ports: [] }, b] }, /which is no relay port/],
    ['a chain that breaks off', { supernodes: [a, { ...b, ports: [] }] }, /behind a:40001 is no relay port/],
    [
      'an exit that answers to another port',
      { exits: [{ ...exit, devices: [device('wg-exit', 'EXIT', { ...own, endpoint: `${B}:40008` })] }] },
      /ends at b:40007, its exit answers to/,
    ],
    [
      'a relay port on nobody’s way',
      { supernodes: [a, { ...b, ports: [...b.ports, hop(40009, `${A}:40009`)] }] },
      /relay ports on nobody's way: b:40009/,
    ],
    [
      'two tunnels over one port',
      {
        clients: [
          client,
          { ...client, name: 'c2', devices: [device('wg-client', 'OTHER', ...(client.devices[0]?.peers ?? []))] },
        ],
      },
      /relay port a:40001 serves two tunnels/,
    ],
  ];
  for (const [what, change, says] of cases) t.match(disagreements(kernels(change)).join('\n'), says, what);
});

t.test('what `wg show all dump` prints is read', async (t) => {
  const text = [
    'wg-exit\tPRIVATE\tPUBLIC\t51820\toff',
    'wg-exit\tPEER\t(none)\t198.51.100.32:40007\t10.200.0.5/32,fd76::5/128\t1763660000\t12\t34\t25',
    'wg-exit\tSILENT\tPSK\t(none)\t(none)\t0\t0\t0\toff',
    'wg-none\tPRIVATE\tALONE\t0\toff',
    '',
  ].join('\n');
  t.same(parseWireGuardDump(text), [
    device(
      'wg-exit',
      'PUBLIC',
      { publicKey: 'PEER', endpoint: '198.51.100.32:40007', allowed: ['10.200.0.5/32', 'fd76::5/128'] },
      { publicKey: 'SILENT', endpoint: '', allowed: [] },
    ),
    device('wg-none', 'ALONE'),
  ]);
});
