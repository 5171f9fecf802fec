import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  CommandResponseSchema,
  CommandSchema,
  Command as WireCommand,
  CommandResponse as WireCommandResponse,
  RelaySetup as WireRelaySetup,
  SetupExit as WireSetupExit,
} from '../../gen/vpnd/v1/control_pb.js';
import type { Command, Desired, RelaySetup, SetupExit } from '../../model/command.js';
import { commandIdOf, idBytes, keyOf } from '../../model/ids.js';
import { wireGuardKeyBytes } from '../../model/keys.js';
import type { CommandResponse } from '../../model/messages.js';
import { ms } from '../../model/time.js';
import {
  endpointFromWire,
  endpointToWire,
  keepaliveFromWire,
  optionalEndpointFromWire,
  optionalEndpointToWire,
  pathFromWire,
  pathToWire,
  requiredEndpointFromWire,
  signedFromWire,
  signedToWire,
} from './common.js';
import {
  clean,
  ip,
  ipOf,
  list,
  must,
  optionalBytes,
  peer,
  port,
  safeInteger,
  session,
  text,
  unknownCase,
  wireGuardKey,
} from './fields.js';
import { KEM_KEY_BYTES, MAX_AVOIDED, MAX_TEXT, MAX_VOUCHED_IPS } from './limits.js';
import { refusalToWire, refused, succeeded } from './refusal.js';

type WireDesired = NonNullable<MessageInitShape<typeof CommandSchema>['desired']>;

function desiredToWire(desired: Desired): WireDesired {
  switch (desired.kind) {
    case 'setup-exit':
      return {
        case: 'setupExit',
        value: {
          clientKey: wireGuardKeyBytes(desired.clientKey),
          innerIpv4: desired.inner.ipv4,
          innerIpv6: desired.inner.ipv6,
          gatewayIpv4: desired.inner.gatewayIpv4,
          gatewayIpv6: desired.inner.gatewayIpv6,
          ...optionalEndpointToWire(desired.endpoint),
          keepaliveS: desired.keepalive,
          kemKey: desired.kemKey,
        },
      };
    case 'relay-setup':
      return {
        case: 'relaySetup',
        value: {
          port: desired.port,
          localIp: desired.localIp,
          vouchedIps: [...desired.vouched],
          next:
            desired.next.kind === 'hop'
              ? { case: 'hop', value: endpointToWire(desired.next.endpoint) }
              : { case: 'pairPort', value: desired.next.port },
        },
      };
    case 'relay-update':
      return {
        case: 'relayUpdate',
        value: {
          endpoint: endpointToWire(desired.endpoint),
          keepaliveS: desired.keepalive,
          path: pathToWire(desired.path),
        },
      };
    case 'rotate-peer':
      return {
        case: 'rotatePeer',
        value: {
          reason: clean(desired.reason, MAX_TEXT),
          leaveSupernode: desired.leaveSupernode,
          urgent: desired.urgent,
          avoidExits: desired.avoidExits.slice(0, MAX_AVOIDED).map(keyOf),
        },
      };
    case 'disconnect':
      return { case: 'disconnect', value: { reason: clean(desired.reason, MAX_TEXT) } };
  }
}

const setupExitFromWire = (wire: WireSetupExit): SetupExit => ({
  kind: 'setup-exit',
  clientKey: wireGuardKey(wire.clientKey, 'client_key'),
  inner: {
    ipv4: ipOf(4, wire.innerIpv4, 'inner_ipv4'),
    ipv6: ipOf(6, wire.innerIpv6, 'inner_ipv6'),
    gatewayIpv4: ipOf(4, wire.gatewayIpv4, 'gateway_ipv4'),
    gatewayIpv6: ipOf(6, wire.gatewayIpv6, 'gateway_ipv6'),
  },
  endpoint: optionalEndpointFromWire(wire.endpoint, 'endpoint'),
  keepalive: keepaliveFromWire(wire.keepaliveS),
  kemKey: optionalBytes(wire.kemKey, 'kem_key', KEM_KEY_BYTES),
});

function relayNextFromWire(wire: WireRelaySetup): RelaySetup['next'] {
  switch (wire.next.case) {
    case 'hop':
      return { kind: 'hop', endpoint: endpointFromWire(wire.next.value, 'next.hop') };
    case 'pairPort':
      return { kind: 'pair', port: port(wire.next.value, 'next.pair_port') };
    case undefined:
      return unknownCase(wire, 'relay_setup.next');
  }
}

function desiredFromWire(wire: WireCommand): Desired {
  switch (wire.desired.case) {
    case 'setupExit':
      return setupExitFromWire(wire.desired.value);
    case 'relaySetup':
      return {
        kind: 'relay-setup',
        port: port(wire.desired.value.port, 'port'),
        localIp: ip(wire.desired.value.localIp, 'local_ip'),
        vouched: list(wire.desired.value.vouchedIps, 'vouched_ips', MAX_VOUCHED_IPS, (at) => ip(at, 'vouched_ips')),
        next: relayNextFromWire(wire.desired.value),
      };
    case 'relayUpdate':
      return {
        kind: 'relay-update',
        endpoint: requiredEndpointFromWire(wire.desired.value.endpoint, 'endpoint'),
        keepalive: keepaliveFromWire(wire.desired.value.keepaliveS),
        path: pathFromWire(wire.desired.value.path),
      };
    case 'rotatePeer': {
      const { reason, leaveSupernode, urgent, avoidExits } = wire.desired.value;
      return {
        kind: 'rotate-peer',
        reason: text(reason, 'reason', MAX_TEXT),
        leaveSupernode,
        urgent,
        avoidExits: list(avoidExits, 'avoid_exits', MAX_AVOIDED, (key) => peer(key, 'avoid_exits')),
      };
    }
    case 'disconnect':
      return { kind: 'disconnect', reason: text(wire.desired.value.reason, 'reason', MAX_TEXT) };
    case undefined:
      return unknownCase(wire, 'command.desired');
  }
}

export const commandToWire = (command: Command): MessageInitShape<typeof CommandSchema> => ({
  commandId: idBytes(command.id),
  sessionId: idBytes(command.session),
  generation: BigInt(command.generation),
  leaseMs: command.lease,
  desired: desiredToWire(command.desired),
});

export const commandFromWire = (wire: WireCommand): Command => ({
  id: must(commandIdOf(wire.commandId), 'command_id'),
  session: session(wire.sessionId),
  generation: safeInteger(wire.generation, 'generation'),
  lease: ms(wire.leaseMs),
  desired: desiredFromWire(wire),
});

export const commandResponseToWire = (response: CommandResponse): MessageInitShape<typeof CommandResponseSchema> => ({
  commandId: idBytes(response.id),
  result: response.result.ok
    ? {
        case: 'done',
        value: response.result.value.offer === undefined ? {} : { offer: signedToWire(response.result.value.offer) },
      }
    : { case: 'error', value: refusalToWire(response.result.error) },
});

function commandResultFromWire(wire: WireCommandResponse): CommandResponse['result'] {
  switch (wire.result.case) {
    case 'done': {
      const { offer } = wire.result.value;
      return succeeded({ offer: offer === undefined ? undefined : signedFromWire(offer, 'offer') });
    }
    case 'error':
      return refused(wire.result.value);
    case undefined:
      return unknownCase(wire, 'command_response.result');
  }
}

export const commandResponseFromWire = (wire: WireCommandResponse): CommandResponse => ({
  kind: 'command-response',
  id: must(commandIdOf(wire.commandId), 'command_id'),
  result: commandResultFromWire(wire),
});
