import type { IncomingHttpHeaders } from 'node:http';
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import type { Connection, Connections } from './connections.js';

/**
 * Counts the HTTP/2 streams of every connection, those included that no call comes of: reset at once, or for a method
 * that there is not. grpc-js hands out neither its HTTP/2 server nor sessions, so this is the one place that looks inside
 * it. Throws when there is nothing to see, so that another version of it does not go unguarded.
 */
export function watchSessions(grpc: Server, connections: Pick<Connections, 'from'>): void {
  const { http2Servers } = grpc as unknown as { readonly http2Servers?: ReadonlyMap<Http2Server, unknown> };
  const [server] = http2Servers?.keys() ?? [];
  if (server === undefined) throw new Error('this version of grpc-js keeps its HTTP/2 servers elsewhere');
  const guarded = new WeakMap<object, Connection>();
  server.on('session', (session: ServerHttp2Session) => {
    const connection = connections.from(session.socket);
    if (connection === undefined) return;
    guarded.set(session, connection);
    connection.stop = () => session.destroy();
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
    if (connection?.guarded.gone !== true && !stream.destroyed && !stream.closed) return;
    // Without a content type nothing is looked up or begun for it.
    delete headers['content-type'];
    stream.respond = () => {};
  });
}
