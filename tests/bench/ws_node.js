// SPDX-License-Identifier: MIT
// Fan-out with node's package ws: each datagram to each subscriber by ws.send, as the documentation of ws has it.
// ws_node.js UDP_PORT TCP_PORT PATH [CERT KEY [CLIENT_CA]]
'use strict';
const { WebSocketServer, WebSocket } = require('ws');
const dgram = require('dgram');
const fs = require('fs');

const [udpPort, tcpPort, path, cert, key, ca] = process.argv.slice(2);
const server = cert
  ? require('https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key),
    ...(ca ? { ca: fs.readFileSync(ca), requestCert: true, rejectUnauthorized: true } : {}) })
  : require('http').createServer();
const wss = new WebSocketServer({ server, path, perMessageDeflate: false });
const udp = dgram.createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });

udp.on('message', (data) => {
  for (const client of wss.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
  }
});
server.listen(Number(tcpPort), '127.0.0.1', () => udp.bind(Number(udpPort), '127.0.0.1', () => console.log('ready')));
