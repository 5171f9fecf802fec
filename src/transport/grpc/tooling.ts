import { type DescService, toBinary } from '@bufbuild/protobuf';
import { type FileDescriptorProto, FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { type Server, type ServiceDefinition, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { file_vpnd_v1_base } from '../../gen/vpnd/v1/base_pb.js';
import { file_vpnd_v1_control } from '../../gen/vpnd/v1/control_pb.js';
import { file_vpnd_v1_supernode } from '../../gen/vpnd/v1/supernode_pb.js';
import { file_vpnd_v1_types } from '../../gen/vpnd/v1/types_pb.js';

const FILES: readonly FileDescriptorProto[] = [
  file_vpnd_v1_types,
  file_vpnd_v1_control,
  file_vpnd_v1_base,
  file_vpnd_v1_supernode,
].map((file) => file.proto);

/** What generic gRPC tools ask for: server reflection (v1 and v1alpha) and grpc.health.v1. */
export function addTooling(server: Server, services: readonly DescService[]): HealthImplementation {
  const names = services.map((service) => service.typeName);
  // The shape that proto-loader makes; only the file descriptors in it are read.
  const definition = {
    vpnd: {
      format: 'Protocol Buffer 3 DescriptorProto',
      type: {},
      fileDescriptorProtos: FILES.map((file) => Buffer.from(toBinary(FileDescriptorProtoSchema, file))),
    },
  } as unknown as ConstructorParameters<typeof ReflectionService>[0];
  const bounded = {
    addService: (service: ServiceDefinition, handlers: UntypedServiceImplementation) =>
      server.addService(service, withBackpressure(handlers)),
  };
  new ReflectionService(definition, { services: names }).addToServer(bounded);
  const health = new HealthImplementation(Object.fromEntries(['', ...names].map((name) => [name, 'SERVING'])));
  health.addToServer(server);
  return health;
}

/**
 * Tools run where the daemon runs. Elsewhere nobody gets answers that are larger than what he must read: in Node's HTTP/2
 * (20.20), who asks on, reads nothing and then resets the connection can crash the process (decision 0038).
 */
const FROM_HERE = /^(127\.0\.0\.1|::1|::ffff:127\.0\.0\.1):\d+$/;
/** Reflection streams at once, of everybody together, and questions on each: answers are five hundred times their size. */
const MAX_REFLECTIONS = 32;
const MAX_QUESTIONS = 64;

interface Duplex {
  getPeer(): string;
  emit(event: 'error', error: { code: number; details: string }): unknown;
  write(message: unknown): boolean;
  pause(): unknown;
  resume(): unknown;
  once(event: 'drain' | 'cancelled', listener: () => void): unknown;
  on(event: 'error', listener: () => void): unknown;
}

/**
 * The reflection service answers as fast as it is asked and anybody may ask it: unless reading stops while answers wait,
 * a client that reads nothing fills the server's memory.
 */
function withBackpressure(handlers: UntypedServiceImplementation): UntypedServiceImplementation {
  let open = 0;
  return Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [
      name,
      (stream: Duplex) => {
        const isHere = FROM_HERE.test(stream.getPeer());
        if (!isHere || open >= MAX_REFLECTIONS) {
          stream.on('error', () => {});
          stream.emit(
            'error',
            isHere
              ? { code: status.RESOURCE_EXHAUSTED, details: 'too many ask at once' }
              : { code: status.PERMISSION_DENIED, details: 'reflection is for this machine' },
          );
          return;
        }
        open++;
        stream.once('cancelled', () => open--);
        const write = stream.write.bind(stream);
        let answers = 0;
        stream.write = (message) => {
          if (++answers > MAX_QUESTIONS) {
            if (answers === MAX_QUESTIONS + 1)
              stream.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many questions' });
            return false;
          }
          const room = write(message);
          if (!room) {
            stream.pause();
            stream.once('drain', () => stream.resume());
          }
          return room;
        };
        (handler as (stream: Duplex) => void)(stream);
      },
    ]),
  ) as unknown as UntypedServiceImplementation;
}
