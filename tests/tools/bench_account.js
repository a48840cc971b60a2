// Where each millisecond of a commanded restart goes, for bench.js: the steps between the old process's last line and
// `identified`, from the sidecar's log at `debug` and from pm2's own `pm_uptime` (the time at which it starts a process,
// in whole ms). Times are ms since the epoch.

'use strict';

const fs = require('fs');

/** `pm_uptime` as pm2 gave it to the process. */
function spawnedAt(pid) {
  const found = /(?:^|\0)pm_uptime=(\d+)/.exec(fs.readFileSync(`/proc/${pid}/environ`, 'utf8'));
  // Rounded down to a whole ms by pm2.
  return Number(found[1]) + 0.5;
}

/**
 * The steps of one restart, in order, ms each. `lines` are those from the old process's `the sidecar ends` on, up to the
 * next run's `identified`. `aside` runs beside the others.
 */
function account(lines, spawned) {
  const at = (is) => lines.find(is).ms;
  const message = (text) => at((line) => line.message === text);
  const event = (name) => at((line) => line.event === name);
  const start = lines.find((line) => line.message === 'the sidecar starts');
  const before = ['arguments_us', 'config_us', 'runtime_us', 'lock_us', 'log_us'].map((name) => start[name] / 1000);
  const main = start.ms - before.reduce((sum, it) => sum + it, 0);
  const adapters = message('the adapters stand');
  const socket = message('the hub took the WebSocket');
  const opened = event('HubOpened');
  const steps = {
    'exit, and pm2 until it starts the next': spawned - message('the sidecar ends'),
    'fork, exec, libraries, until main': main - spawned,
    'command line': before[0],
    'config.json': before[1],
    "runtime, pm2's facts": before[2],
    'lock': before[3],
    'log': before[4],
    'journal read': message('the journal was read') - start.ms,
    'adapters, local socket': adapters - message('the journal was read'),
    'dial: TCP': message("the hub's port was reached") - adapters,
    'dial: WebSocket': socket - message("the hub's port was reached"),
    "rest of the journal's write": opened - socket,
    'identify -> identified': at((line) => line.said === 'identified') - opened,
  };
  return { steps, aside: { "the journal's write, beside the dial": event('Persisted') - adapters } };
}

/** The lines of the table: medians over all restarts, and each one's share of their sum. */
function table(accounts, median, say) {
  const rows = (part) => Object.keys(accounts[0][part]).map((name) => [name, median(accounts.map((it) => it[part][name]))]);
  const steps = rows('steps');
  const sum = steps.reduce((total, [, ms]) => total + ms, 0);
  for (const [name, ms] of steps) say(`  ${name.padEnd(44)} ${ms.toFixed(2).padStart(6)} ms ${((100 * ms) / sum).toFixed(0).padStart(3)} %`);
  for (const [name, ms] of rows('aside')) say(`  (${name.padEnd(43)} ${ms.toFixed(2).padStart(6)} ms)`);
}

module.exports = { account, spawnedAt, table };
