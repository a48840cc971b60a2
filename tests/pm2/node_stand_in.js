// A stand-in for the original Node sidecar in the folder it runs in: its config.json, queue.json, results folder and frames,
// as far as another sidecar in its place can notice them. Written from what is known of it, not from its text.
const fs = require('fs');
const path = require('path');
const { exec } = require('child_process');
const WebSocket = require(process.env.WS_MODULE);

const config = JSON.parse(fs.readFileSync('config.json', 'utf8'));
const results = path.resolve(config.results_dir || './results');
fs.mkdirSync(results, { recursive: true });
// What is there already is never looked at.
const seen = new Set(fs.readdirSync(results));

let queue = { active: null, recovering: null };
try {
  queue = JSON.parse(fs.readFileSync('queue.json', 'utf8'));
} catch {
  // Missing or damaged: it begins anew.
}
const save = () => {
  fs.writeFileSync('queue.json.new', JSON.stringify(queue, null, 2));
  fs.renameSync('queue.json.new', 'queue.json');
};
if (queue.active) {
  queue = { ...queue, recovering: queue.active, active: null };
  save();
}

let restart = null;
const generations = {};
const ws = new WebSocket(config.hub_url);
const say = (frame) => ws.readyState === WebSocket.OPEN && ws.send(JSON.stringify({ ...frame, protocol_version: 1 }));
const leave = () => setTimeout(() => process.exit(0), 500);
const status = (word) => {
  queue.active.status = word;
  save();
};

const wake = (task) => {
  status('waking');
  const line = config.wake_command.replaceAll('${TASK_ID}', task.task_id).replaceAll('${TASK_DESCRIPTION}', task.description);
  // The original pastes the task into the line; the tests' agent reads its hand-out from the environment.
  const env = { ...process.env, TASK_JSON: JSON.stringify(task) };
  exec(line, { timeout: 60000, env }, (error) => {
    if (error || !queue.active) return;
    say({ type: 'wake_result', task_id: task.task_id, status: 'success', attempt: 1 });
    if (queue.active.status === 'waking') status('waking_confirmation');
  });
};

const found = (name) => {
  const task = queue.active;
  if (!task) return;
  if (name === `${task.task_id}.started` && task.status === 'waking_confirmation') status('working');
  if (name !== `${task.task_id}.json`) return;
  const result = JSON.parse(fs.readFileSync(path.join(results, name), 'utf8'));
  say({ type: 'task_complete', task_id: task.task_id, generation: generations[task.task_id] || 0, result });
  queue.active = null;
  save();
  for (const ending of ['json', 'started']) fs.rmSync(path.join(results, `${task.task_id}.${ending}`), { force: true });
  if (restart) {
    say({ type: 'agent_restarting', reason: restart });
    leave();
  }
};
setInterval(() => {
  for (const name of fs.readdirSync(results)) {
    if (seen.has(name)) continue;
    // A sign that comes while the wake command runs is looked at once and forgotten.
    seen.add(name);
    setTimeout(() => found(name), 100);
  }
}, 50);

const heard = {
  identified: () => {
    const task = queue.recovering;
    if (task) say({ type: 'task_recovering', task_id: task.task_id, description: task.description, last_status: task.status });
  },
  task_assign: ({ type: _, ...task }) => {
    if (queue.active) return say({ type: 'task_rejected', task_id: task.task_id, reason: 'busy' });
    generations[task.task_id] = task.generation;
    queue.active = { ...task, status: 'accepted', wake_attempts: 1 };
    save();
    say({ type: 'task_accepted', task_id: task.task_id });
    wake(queue.active);
  },
  task_continue: ({ task_id, generation }) => {
    generations[task_id] = generation;
    if (queue.recovering?.task_id !== task_id) return;
    queue = { ...queue, active: queue.recovering, recovering: null };
    save();
  },
  task_reassign: ({ task_id }) => {
    if (queue.recovering?.task_id !== task_id) return;
    queue.recovering = null;
    save();
  },
  restart_sidecar: ({ reason }) => {
    if (queue.active?.status === 'working') {
      restart = reason;
      return;
    }
    say({ type: 'agent_restarting', reason });
    leave();
  },
};
ws.on('open', () =>
  say({
    type: 'identify', agent_id: config.agent_id, token: config.token, name: config.agent_id, status: 'idle',
    capabilities: config.capabilities || [], client_type: 'sidecar',
  }),
);
ws.on('message', (data) => {
  const frame = JSON.parse(data);
  heard[frame.type]?.(frame);
});
ws.on('error', () => process.exit(1));
process.on('SIGINT', () => {
  save();
  ws.close(1000, 'shutdown');
  leave();
});
