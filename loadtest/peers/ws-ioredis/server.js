// Topics of Redis, passed on to WebSocket clients: what one writes with ws and ioredis.
//
// GET /topics/NAME is a subscription. The process has one connection to Redis and subscribes to a topic there
// while it has clients here. A message is framed once, and the frame is written to each client's socket.
//
//   server.js PORT REDIS_URL              one write per message and client
//   server.js PORT REDIS_URL --batched    all messages that Redis sent at once are one write per client

'use strict';

const http = require('node:http');
const { Redis } = require('ioredis');
const { Sender, WebSocketServer } = require('ws');

const PREFIX = 'topic:';
// A client that lags by more is ended: its memory must have a bound.
const MAX_LAG_BYTES = 64 * 1024 * 1024;

const [port, redisUrl, mode] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const topics = new Map();

function frame(message) {
  const parts = Sender.frame(message, { fin: true, opcode: 1, mask: false, rsv1: false, readOnly: true });
  return Buffer.concat(parts);
}

function deliver(topic, bytes) {
  for (const socket of topic.sockets) {
    if (socket.writableLength > MAX_LAG_BYTES) socket.destroy();
    else socket.write(bytes);
  }
}

function deliverAtOnce(topic, bytes) {
  // The client of Redis emits all that it has read before the next tick comes.
  if (topic.frames.push(bytes) > 1) return;
  process.nextTick(() => {
    const frames = topic.frames;
    topic.frames = [];
    deliver(topic, frames.length === 1 ? frames[0] : Buffer.concat(frames));
  });
}

const pass = mode === '--batched' ? deliverAtOnce : deliver;

redis.on('messageBuffer', (channel, message) => {
  const topic = topics.get(channel.toString());
  if (topic) pass(topic, frame(message));
});

async function join(channel, socket) {
  let topic = topics.get(channel);
  if (!topic) {
    topic = { sockets: new Set(), frames: [], subscribed: redis.subscribe(channel) };
    topics.set(channel, topic);
  }
  topic.sockets.add(socket);
  socket.on('close', () => leave(channel, topic, socket));
  await topic.subscribed;
}

function leave(channel, topic, socket) {
  topic.sockets.delete(socket);
  if (topic.sockets.size > 0) return;
  topics.delete(channel);
  redis.unsubscribe(channel);
}

const server = http.createServer((request, response) => {
  response.writeHead(request.url === '/health' ? 200 : 404).end();
});
const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });

server.on('upgrade', (request, socket, head) => {
  const name = request.url.startsWith('/topics/') && request.url.slice('/topics/'.length);
  if (!name) return socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
  socket.setNoDelay(true);
  webSockets.handleUpgrade(request, socket, head, (client) => {
    client.on('error', () => client.terminate());
    join(PREFIX + name, socket).then(
      () => client.send('subscribed'),
      () => client.terminate(),
    );
  });
});

server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 });
