import type { IncomingHttpHeaders } from 'node:http';
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import type { Connection, Connections } from './connections.js';
import { isCallOf } from './control-call.js';

/** The one kind of call that is not left to grpc-js. */
export interface ControlRoute {
  readonly path: string;
  accept(stream: ServerHttp2Stream, connection: Connection): void;
}

/**
 * Counts the HTTP/2 streams of every connection, those included that no call comes of: reset at once, or for a method
 * that there is not. grpc-js hands out neither its HTTP/2 server nor sessions, so this is the one place that looks inside
 * it. Throws when there is nothing to see, so that another version of it does not go unguarded. Control streams it takes
 * out of grpc-js's hands, which goes on to count them for its connections' idle time.
 */
export function watchSessions(grpc: Server, connections: Pick<Connections, 'from'>, control: ControlRoute): void {
  const { http2Servers } = grpc as unknown as { readonly http2Servers?: ReadonlyMap<Http2Server, unknown> };
  const [server] = http2Servers?.keys() ?? [];
  if (server === undefined) throw new Error('this version of grpc-js keeps its HTTP/2 servers elsewhere');
  const guarded = new WeakMap<object, Connection>();
  const own = new WeakMap<ServerHttp2Stream, Connection>();
  server.on('session', (session: ServerHttp2Session) => {
    const connection = connections.from(session.socket);
    if (connection === undefined) return;
    guarded.set(session, connection);
    connection.stop = () => session.destroy();
    connection.ping = () => {
      // Any answer is bytes that come in, which is all that is looked at.
      if (!session.destroyed && !session.closed) session.ping(() => {});
    };
    session.once('close', () => connection.guarded.finished());
  });
  server.on('sessionError', (error: NodeJS.ErrnoException, session: ServerHttp2Session) => {
    // Connections that break end so, too, and that is nobody's fault.
    if (error.code?.startsWith('ERR_HTTP2') === true) guarded.get(session)?.guarded.broke();
  });
  // Before grpc-js, which would begin to answer streams of a connection that is to be cut, and throws, to the end of the
  // process, where one is not there any more.
  server.prependListener('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const connection = stream.session === undefined ? undefined : guarded.get(stream.session);
    connection?.guarded.opened();
    const isAlive = connection?.guarded.gone !== true && !stream.destroyed && !stream.closed;
    const isControl = isAlive && connection !== undefined && isCallOf(control.path, headers);
    if (isAlive && !isControl) return;
    if (isControl) own.set(stream, connection);
    // Without a content type nothing is looked up or begun for it.
    delete headers['content-type'];
    stream.respond = () => {};
  });
  // Behind grpc-js, which has let go of it.
  server.on('stream', (stream: ServerHttp2Stream) => {
    const connection = own.get(stream);
    if (connection === undefined) return;
    delete (stream as Partial<Pick<ServerHttp2Stream, 'respond'>>).respond;
    control.accept(stream, connection);
  });
}
