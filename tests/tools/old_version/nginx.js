// A real nginx before a story's hub, as one that a fleet of version 0.1.0 has there.

'use strict';

const fs = require('fs');
const net = require('net');

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// What nginx writes goes below its own folder.
const settings = (port, hubPort, headers) => `
daemon off;
${process.getuid() === 0 ? 'user root;' : ''}
worker_processes 1;
pid nginx.pid;
error_log stderr notice;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${kind};`).join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${hubPort};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 120s;
      ${headers.map((header) => `proxy_set_header ${header};`).join('\n      ')}
    }
  }
}
`;

/** Starts nginx before what listens at this port, and answers its own port. */
async function startNginx(stage, hubPort, headers) {
  const folder = stage.at('nginx');
  fs.mkdirSync(folder);
  const port = await freePort();
  fs.writeFileSync(stage.at('nginx', 'nginx.conf'), settings(port, hubPort, headers));
  const process = stage.process('nginx', 'nginx', ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf']);
  await stage.until('nginx to run', () => process.said().includes('start worker process '));
  return port;
}

module.exports = { startNginx };
