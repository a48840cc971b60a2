// The two programs of version 0.1.0, built from this repository's history, and today's.

'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..', '..');
// What the users of version 0.1.0 run.
const COMMIT = '76763c0f291de098a60b6bf07ab2ecbbea18ebc7';
const RELEASE = process.env.OLD_VERSION_PROFILE === 'release';

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: TOP, encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (done.error) throw new Error(`${command} cannot be run: ${done.error.message}`);
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.status}\n${done.stderr || ''}`);
  return done.stdout;
}

function haveCommit() {
  if (spawnSync('git', ['cat-file', '-e', `${COMMIT}^{commit}`], { cwd: TOP }).status === 0) return;
  const shallow = spawnSync('git', ['rev-parse', '--is-shallow-repository'], { cwd: TOP, encoding: 'utf8' });
  const why = String(shallow.stdout).trim() === 'true' ? 'the clone is shallow: git fetch --unshallow' : 'this needs a clone with the whole history';
  throw new Error(`version 0.1.0 (commit ${COMMIT}) is not in this clone; ${why}`);
}

const programs = (folder) => ({ hub: path.join(folder, 'agentcom-hub'), sidecar: path.join(folder, 'agentcom-sidecar') });

/** Builds both versions; the folder of version 0.1.0 below cargo's target folder is kept, so that this is quick the next time. */
function build() {
  haveCommit();
  const target = JSON.parse(run('cargo', ['metadata', '--format-version', '1', '--no-deps'])).target_directory;
  const kept = path.join(target, 'old-version');
  const source = path.join(kept, 'source');
  fs.rmSync(source, { recursive: true, force: true });
  fs.mkdirSync(source, { recursive: true });
  // Its files have the commit's date, so cargo builds again only what it has not built.
  const archive = path.join(kept, 'source.tar');
  run('git', ['archive', '--format=tar', '-o', archive, COMMIT]);
  run('tar', ['-xf', archive, '-C', source]);
  fs.rmSync(archive);
  const flags = ['build', '--bins', '--quiet', ...(RELEASE ? ['--release'] : [])];
  const loud = { stdio: 'inherit' };
  run('cargo', [...flags, '--locked', '--target-dir', kept], { ...loud, cwd: source });
  run('cargo', flags, loud);
  const profile = RELEASE ? 'release' : 'debug';
  return { old: programs(path.join(kept, profile)), today: programs(path.join(target, profile)) };
}

module.exports = { build, TOP };
