import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  ControlMessageSchema,
  type EventSchema,
  type Event as WireEvent,
  type ExitResponse as WireExitResponse,
} from '../../gen/vpnd/v1/control_pb.js';
import type { Bytes } from '../../model/bytes.js';
import type { VpndError } from '../../model/errors.js';
import { idBytes } from '../../model/ids.js';
import type { ControlMessage, ExitResponse, News } from '../../model/messages.js';
import { ok, type Result } from '../../model/result.js';
import { ms } from '../../model/time.js';
import { chainFromWire, chainToWire } from './anchors.js';
import { authRequestFromWire, authRequestToWire, authResponseFromWire, authResponseToWire } from './auth.js';
import { commandFromWire, commandResponseFromWire, commandResponseToWire, commandToWire } from './command.js';
import {
  loadFromWire,
  loadToWire,
  pathFromWire,
  pathToWire,
  supernodeFromWire,
  supernodesFromWire,
  supernodesToWire,
  supernodeToWire,
} from './common.js';
import { bytes, clean, list, type Parsed, parsing, safeInteger, session, text, unknownCase } from './fields.js';
import { decodeHeartbeat, encodeHeartbeat, isHeartbeat } from './heartbeat.js';
import { infoRequestFromWire, infoRequestToWire, infoResponseFromWire, infoResponseToWire } from './info.js';
import { MAX_DATAGRAM_BYTES, MAX_DATAGRAMS, MAX_LABEL, MAX_MOVED_SESSIONS, MAX_TEXT } from './limits.js';
import { refusalToWire, refused, succeeded } from './refusal.js';
import { revocationsFromWire, revocationsToWire } from './revocations.js';
import { exitRequestFromWire, exitRequestToWire, grantFromWire, grantToWire } from './session.js';

type WireBody = NonNullable<MessageInitShape<typeof ControlMessageSchema>['body']>;
type WireNews = NonNullable<MessageInitShape<typeof EventSchema>['what']>;

/** A control message as it travels. Throws VpndError `internal` for one that no peer could parse. */
export const encodeControl = (message: ControlMessage): Bytes =>
  (isHeartbeat(message) ? encodeHeartbeat(message) : undefined) ?? encodeGenerally(message);

const encodeGenerally = (message: ControlMessage): Bytes =>
  toBinary(ControlMessageSchema, create(ControlMessageSchema, { body: bodyToWire(message) }));

/**
 * Bytes of a peer; never throws. Errors: bad-message. A kind of message that only a newer version knows comes out as
 * `known: false`, so that it can be ignored; one that this version knows must be right in every field.
 */
export function decodeControl(bytes: Bytes): Result<Parsed<ControlMessage>, VpndError> {
  const heartbeat = decodeHeartbeat(bytes);
  if (heartbeat !== undefined) return ok({ known: true, value: heartbeat });
  return parsing('control message', () => bodyFromWire(bytes));
}

function bodyToWire(message: ControlMessage): WireBody {
  switch (message.kind) {
    case 'auth-request':
      return { case: 'authRequest', value: authRequestToWire(message) };
    case 'auth-response':
      return { case: 'authResponse', value: authResponseToWire(message) };
    case 'ping':
      return {
        case: 'pingRequest',
        value: { id: BigInt(message.id), ...(message.load && { load: loadToWire(message.load) }) },
      };
    case 'pong':
      return { case: 'pongResponse', value: { id: BigInt(message.id) } };
    case 'command':
      return { case: 'command', value: commandToWire(message.command) };
    case 'command-response':
      return { case: 'commandResponse', value: commandResponseToWire(message) };
    case 'info-request':
      return { case: 'infoRequest', value: infoRequestToWire(message) };
    case 'info-response':
      return { case: 'infoResponse', value: infoResponseToWire(message) };
    case 'exit-request':
      return { case: 'exitRequest', value: exitRequestToWire(message.request) };
    case 'exit-response':
      return {
        case: 'exitResponse',
        value: {
          requestId: BigInt(message.requestId),
          result: message.result.ok
            ? { case: 'grant', value: grantToWire(message.result.value) }
            : { case: 'error', value: refusalToWire(message.result.error) },
        },
      };
    case 'event':
      return { case: 'event', value: { what: newsToWire(message.news) } };
    case 'datagrams':
      return { case: 'datagrams', value: { sessionId: idBytes(message.session), packets: [...message.packets] } };
  }
}

function bodyFromWire(encoded: Bytes): ControlMessage {
  const wire = fromBinary(ControlMessageSchema, encoded);
  switch (wire.body.case) {
    case 'authRequest':
      return authRequestFromWire(wire.body.value);
    case 'authResponse':
      return authResponseFromWire(wire.body.value);
    case 'pingRequest': {
      const { id, load } = wire.body.value;
      return { kind: 'ping', id: safeInteger(id, 'id'), load: load === undefined ? undefined : loadFromWire(load) };
    }
    case 'pongResponse':
      return { kind: 'pong', id: safeInteger(wire.body.value.id, 'id') };
    case 'command':
      return { kind: 'command', command: commandFromWire(wire.body.value) };
    case 'commandResponse':
      return commandResponseFromWire(wire.body.value);
    case 'infoRequest':
      return infoRequestFromWire(wire.body.value);
    case 'infoResponse':
      return infoResponseFromWire(wire.body.value);
    case 'exitRequest':
      return { kind: 'exit-request', request: exitRequestFromWire(wire.body.value) };
    case 'exitResponse':
      return exitResponseFromWire(wire.body.value);
    case 'event':
      return { kind: 'event', news: newsFromWire(wire.body.value) };
    case 'datagrams': {
      const { sessionId, packets } = wire.body.value;
      return {
        kind: 'datagrams',
        session: session(sessionId),
        packets: list(packets, 'packets', MAX_DATAGRAMS, (packet) => bytes(packet, 'packets', 1, MAX_DATAGRAM_BYTES)),
      };
    }
    case undefined:
      return unknownCase(wire, 'control_message.body');
  }
}

function exitResponseFromWire(wire: WireExitResponse): ExitResponse {
  const requestId = safeInteger(wire.requestId, 'request_id');
  switch (wire.result.case) {
    case 'grant':
      return { kind: 'exit-response', requestId, result: succeeded(grantFromWire(wire.result.value)) };
    case 'error':
      return { kind: 'exit-response', requestId, result: refused(wire.result.value) };
    case undefined:
      return unknownCase(wire, 'exit_response.result');
  }
}

function newsToWire(news: News): WireNews {
  switch (news.kind) {
    case 'session-handshake':
      return { case: 'sessionHandshake', value: { sessionId: idBytes(news.session), tookMs: Math.round(news.took) } };
    case 'session-closed':
      return {
        case: 'sessionClosed',
        value: { sessionId: idBytes(news.session), reason: clean(news.reason, MAX_TEXT) },
      };
    case 'session-renewed':
      return {
        case: 'sessionRenewed',
        value: { sessionId: idBytes(news.session), generation: BigInt(news.generation), leaseMs: news.lease },
      };
    case 'session-rekey':
      return { case: 'sessionRekey', value: { sessionId: idBytes(news.session) } };
    case 'sessions-move':
      return {
        case: 'sessionsMove',
        value: { sessionIds: news.sessions.map(idBytes), reason: clean(news.reason, MAX_TEXT) },
      };
    case 'anchors':
      return { case: 'anchors', value: chainToWire(news.chain) };
    case 'directory':
      return { case: 'directory', value: { supernodes: supernodesToWire(news.supernodes) } };
    case 'session-path':
      return {
        case: 'sessionPath',
        value: {
          sessionId: idBytes(news.session),
          path: pathToWire(news.path),
          reason: clean(news.reason, MAX_TEXT),
        },
      };
    case 'supernode':
      return { case: 'supernode', value: supernodeToWire(news.supernode) };
    case 'revocations':
      return { case: 'revocations', value: revocationsToWire(news.change) };
    case 'revocations-wanted':
      return { case: 'revocationsWanted', value: {} };
    case 'problem':
      return {
        case: 'problem',
        value: { code: clean(news.code, MAX_LABEL), message: clean(news.message, MAX_TEXT) },
      };
  }
}

function newsFromWire(wire: WireEvent): News {
  switch (wire.what.case) {
    case 'sessionHandshake': {
      const { sessionId, tookMs } = wire.what.value;
      return { kind: 'session-handshake', session: session(sessionId), took: ms(tookMs) };
    }
    case 'sessionClosed': {
      const { sessionId, reason } = wire.what.value;
      return { kind: 'session-closed', session: session(sessionId), reason: text(reason, 'reason', MAX_TEXT) };
    }
    case 'sessionRenewed': {
      const { sessionId, generation, leaseMs } = wire.what.value;
      return {
        kind: 'session-renewed',
        session: session(sessionId),
        generation: safeInteger(generation, 'generation'),
        lease: ms(leaseMs),
      };
    }
    case 'sessionRekey':
      return { kind: 'session-rekey', session: session(wire.what.value.sessionId) };
    case 'sessionsMove': {
      const { sessionIds, reason } = wire.what.value;
      return {
        kind: 'sessions-move',
        sessions: list(sessionIds, 'session_ids', MAX_MOVED_SESSIONS, session),
        reason: text(reason, 'reason', MAX_TEXT),
      };
    }
    case 'anchors':
      return { kind: 'anchors', chain: chainFromWire(wire.what.value) };
    case 'directory':
      return { kind: 'directory', supernodes: supernodesFromWire(wire.what.value.supernodes) };
    case 'sessionPath': {
      const { sessionId, path, reason } = wire.what.value;
      return {
        kind: 'session-path',
        session: session(sessionId),
        path: pathFromWire(path),
        reason: text(reason, 'reason', MAX_TEXT),
      };
    }
    case 'supernode':
      return { kind: 'supernode', supernode: supernodeFromWire(wire.what.value) };
    case 'revocations':
      return { kind: 'revocations', change: revocationsFromWire(wire.what.value) };
    case 'revocationsWanted':
      return { kind: 'revocations-wanted' };
    case 'problem': {
      const { code, message } = wire.what.value;
      return { kind: 'problem', code: text(code, 'code', MAX_LABEL), message: text(message, 'message', MAX_TEXT) };
    }
    case undefined:
      return unknownCase(wire, 'event.what');
  }
}
