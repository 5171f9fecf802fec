import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  InfoRequestSchema,
  InfoResponseSchema,
  RenewalResultSchema,
  RenewalSchema,
  InfoRequest as WireInfoRequest,
  InfoResponse as WireInfoResponse,
  Renewal as WireRenewal,
  RenewalResult as WireRenewalResult,
} from '../../gen/vpnd/v1/control_pb.js';
import { idBytes, keyOf } from '../../model/ids.js';
import type {
  InfoAnswer,
  InfoQuestion,
  InfoRequest,
  InfoResponse,
  Renewal,
  RenewalResult,
} from '../../model/messages.js';
import { signedFromWire, signedToWire } from './common.js';
import { bytes, instant, list, peer, pem, safeInteger, session, unknownCase } from './fields.js';
import { KEM_KEY_BYTES, MAX_CSR_BYTES, MAX_EXITS, MAX_PEM, SIGNATURE_BYTES } from './limits.js';
import { refusalToWire, refused, succeeded } from './refusal.js';
import { candidateFromWire, candidateToWire, filterFromWire, filterToWire } from './session.js';

export const renewalToWire = (renewal: Renewal): MessageInitShape<typeof RenewalSchema> => ({
  peerKey: keyOf(renewal.peer),
  csr: renewal.csr,
  timestampMs: BigInt(renewal.timestamp),
  signature: renewal.signature,
});

export const renewalFromWire = (wire: WireRenewal): Renewal => ({
  peer: peer(wire.peerKey, 'peer_key'),
  csr: bytes(wire.csr, 'csr', 0, MAX_CSR_BYTES),
  timestamp: instant(wire.timestampMs, 'timestamp_ms'),
  signature: bytes(wire.signature, 'signature', SIGNATURE_BYTES),
});

export const renewalResultToWire = (result: RenewalResult): MessageInitShape<typeof RenewalResultSchema> => ({
  membership: signedToWire(result.membership),
  certificate: result.certificate,
});

export const renewalResultFromWire = (wire: WireRenewalResult): RenewalResult => ({
  membership: signedFromWire(wire.membership, 'membership'),
  certificate: pem(wire.certificate, 'certificate', MAX_PEM),
});

type WireQuestion = NonNullable<MessageInitShape<typeof InfoRequestSchema>['what']>;
function questionToWire(question: InfoQuestion): WireQuestion {
  switch (question.kind) {
    case 'list-exits':
      return { case: 'listExits', value: filterToWire(question.filter) };
    case 'renewal':
      return { case: 'renewal', value: renewalToWire(question.renewal) };
    case 'rekey':
      return { case: 'rekey', value: { sessionId: idBytes(question.session), kemKey: question.kemKey } };
  }
}

function questionFromWire(wire: WireInfoRequest): InfoQuestion {
  switch (wire.what.case) {
    case 'listExits':
      return { kind: 'list-exits', filter: filterFromWire(wire.what.value) };
    case 'renewal':
      return { kind: 'renewal', renewal: renewalFromWire(wire.what.value) };
    case 'rekey': {
      const { sessionId, kemKey } = wire.what.value;
      return { kind: 'rekey', session: session(sessionId), kemKey: bytes(kemKey, 'kem_key', KEM_KEY_BYTES) };
    }
    case undefined:
      return unknownCase(wire, 'info_request.what');
  }
}

export const infoRequestToWire = (request: InfoRequest): MessageInitShape<typeof InfoRequestSchema> => ({
  requestId: BigInt(request.requestId),
  what: questionToWire(request.question),
});

export const infoRequestFromWire = (wire: WireInfoRequest): InfoRequest => ({
  kind: 'info-request',
  requestId: safeInteger(wire.requestId, 'request_id'),
  question: questionFromWire(wire),
});

type WireAnswer = NonNullable<MessageInitShape<typeof InfoResponseSchema>['result']>;
function answerToWire(answer: InfoAnswer): WireAnswer {
  switch (answer.kind) {
    case 'exits':
      return { case: 'exits', value: { exits: answer.exits.slice(0, MAX_EXITS).map(candidateToWire) } };
    case 'renewal':
      return { case: 'renewal', value: renewalResultToWire(answer.result) };
    case 'rekeyed':
      return { case: 'rekeyed', value: { offer: signedToWire(answer.offer) } };
  }
}

export const infoResponseToWire = (response: InfoResponse): MessageInitShape<typeof InfoResponseSchema> => ({
  requestId: BigInt(response.requestId),
  result: response.result.ok
    ? answerToWire(response.result.value)
    : { case: 'error', value: refusalToWire(response.result.error) },
});

function infoResultFromWire(wire: WireInfoResponse): InfoResponse['result'] {
  switch (wire.result.case) {
    case 'exits':
      return succeeded({ kind: 'exits', exits: list(wire.result.value.exits, 'exits', MAX_EXITS, candidateFromWire) });
    case 'renewal':
      return succeeded({ kind: 'renewal', result: renewalResultFromWire(wire.result.value) });
    case 'rekeyed':
      return succeeded({ kind: 'rekeyed', offer: signedFromWire(wire.result.value.offer, 'offer') });
    case 'error':
      return refused(wire.result.value);
    case undefined:
      return unknownCase(wire, 'info_response.result');
  }
}

export const infoResponseFromWire = (wire: WireInfoResponse): InfoResponse => ({
  kind: 'info-response',
  requestId: safeInteger(wire.requestId, 'request_id'),
  result: infoResultFromWire(wire),
});
