// A buyer's browser. Opens the page that is its argument, and each time the page says something new
// writes that as a line; ends after what the second argument names has been said.
const { chromium } = require('playwright-core');

const [address, last] = process.argv.slice(2);
const quiet = ['--disable-gpu', '--disable-quic', '--disable-sync', '--disable-background-networking',
  '--disable-component-update', '--no-first-run'];

async function main() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium', args: quiet, chromiumSandbox: false,
  });
  const page = await browser.newPage();
  await page.goto(address);
  for (let said = ''; said !== last;) {
    await page.waitForFunction(
      (before) => document.getElementById('status').textContent !== before, said, { timeout: 30000 });
    said = await page.textContent('#status');
    console.log(said);
  }
  await browser.close();
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
