// People at the hub's page, in a real Chromium: `main.js CHROMIUM HUB_PORT ADMIN_TOKEN`. It tells the test what to do with
// its processes (`do WHAT`, answered `done WHAT`), judges what the page shows, and ends with 0 if all is as it should be.

'use strict';

const { Crowd } = require('./crowd.js');
const { Stage } = require('./stage.js');
const stories = require('./stories.js');
const more = require('./more_stories.js');

async function main() {
  const [, , chromium, port, admin] = process.argv;
  const stage = new Stage(chromium, port, admin);
  const crowd = new Crowd(port, stage.api);
  await stage.launch();
  try {
    for (const [name, story] of Object.entries({ ...stories, ...more })) {
      if (process.env.ONLY && !process.env.ONLY.split(',').includes(name)) continue;
      const begun = Date.now();
      try {
        await story(stage, crowd);
      } catch (error) {
        throw new Error(`${name}: ${error.stack}`);
      }
      console.log(`told ${name} in ${Date.now() - begun} ms`);
    }
    if (stage.complaints.length) throw new Error(`the browser complained:\n${stage.complaints.join('\n')}`);
  } finally {
    crowd.end();
    await stage.browser.close();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(`page: ${error.stack}`);
    process.exit(1);
  },
);
