// Rooms of Socket.IO with its Redis adapter: a client says which room it wants, and messages come from Redis,
// as another node of the fleet or an emitter would send them.
//
//   server.js PORT REDIS_URL

'use strict';

const http = require('node:http');
const { Redis } = require('ioredis');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');

const [port, redisUrl] = process.argv.slice(2);
const publisher = new Redis(redisUrl);
const subscriber = publisher.duplicate();

const server = http.createServer((request, response) => {
  response.writeHead(request.url === '/health' ? 200 : 404).end();
});
const io = new Server(server, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  // JSON instead of MessagePack: V8's own parser is the faster one, and a script can write it.
  adapter: createAdapter(publisher, subscriber, { parser: { encode: JSON.stringify, decode: JSON.parse } }),
});

io.on('connection', (socket) => {
  // The request isn't needed any more.
  delete socket.conn.request;
  socket.on('subscribe', (room, subscribed) => {
    socket.join(room);
    subscribed();
  });
});

server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 });
