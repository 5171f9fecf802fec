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

/** Reflection streams at once, of everybody together: answers are five hundred times the size of questions. */
const MAX_REFLECTIONS = 32;

interface Duplex {
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
        if (open >= MAX_REFLECTIONS) {
          stream.on('error', () => {});
          stream.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many ask at once' });
          return;
        }
        open++;
        stream.once('cancelled', () => open--);
        const write = stream.write.bind(stream);
        stream.write = (message) => {
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
