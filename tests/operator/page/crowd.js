// Simulated agents: they dial, identify, take a task and report of it, and answer restart commands as each is told to.

'use strict';

const WebSocket = require('ws');

const AT_ONCE = 40;

class Crowd {
  /** `api(method, path, body)` asks the hub as an admin. */
  constructor(port, api) {
    Object.assign(this, { port, api, sockets: new Set(), ended: false });
  }

  /** Registers agents and has them dial; each is `{id, labels, output, refuses, version}`. Done once all are identified. */
  async join(agents) {
    for (let at = 0; at < agents.length; at += AT_ONCE) {
      await Promise.all(
        agents.slice(at, at + AT_ONCE).map(async (agent) => {
          const { token } = await this.api('POST', '/api/onboard/register', { agent_id: agent.id });
          await this.dial({ ...agent, token, boot: 1 });
        }),
      );
    }
  }

  dial(agent, restarted) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://127.0.0.1:${this.port}/ws`);
      const say = (frame) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ protocol_version: 1, ...frame }));
      this.sockets.add(socket);
      socket.on('error', reject);
      socket.on('close', () => this.sockets.delete(socket));
      socket.on('open', () =>
        say({
          type: 'identify',
          agent_id: agent.id,
          token: agent.token,
          name: agent.id,
          status: 'idle',
          capabilities: ['simulated'],
          client_type: 'sidecar',
          version: agent.version ?? '0.1.0',
          boot_id: `${agent.id}-${agent.boot}`,
          features: ['restart.v2', 'task_reassign'],
          labels: agent.labels ?? {},
          restarted,
        }),
      );
      socket.on('message', (text) => {
        const frame = JSON.parse(text);
        if (frame.type === 'identified') resolve();
        if (frame.type === 'task_assign') this.work(agent, frame, say);
        if (frame.type === 'restart_sidecar') this.restart(agent, frame, socket, say);
      });
    });
  }

  work(agent, { task_id, generation }, say) {
    say({ type: 'task_accepted', task_id, generation });
    say({
      type: 'task_progress',
      task_id,
      generation,
      progress: 40,
      execution_event: { event_type: 'stdout', text: agent.output ?? 'working' },
    });
  }

  restart(agent, { command_id, reason }, socket, say) {
    if (agent.refuses > 0) {
      agent.refuses -= 1;
      return say({ type: 'restart_ack', command_id, outcome: 'refused', reason: 'busy', detail: agent.detail });
    }
    say({ type: 'restart_ack', command_id, outcome: 'accepted' });
    say({ type: 'agent_restarting', reason, command_id, forced: false, expected_back_ms: 5000 });
    socket.on('close', () => {
      agent.boot += 1;
      if (!this.ended) this.dial(agent, { command_id, reason, forced: false, gap_ms: 5 }).catch(() => {});
    });
    return socket.close(1000);
  }

  end() {
    this.ended = true;
    for (const socket of this.sockets) socket.terminate();
  }
}

module.exports = { Crowd };
