// Looks at the pages in Debian's Chromium, and writes what it saw as one JSON object.
const { chromium } = require('playwright-core');
const axe = require('axe-core');
const fs = require('fs');

const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
const quiet = ['--disable-gpu', '--disable-quic', '--disable-sync', '--disable-background-networking',
  '--disable-component-update', '--no-first-run', '--host-resolver-rules=MAP *.example 127.0.0.1'];
const seen = { console: [], axe: [], wide: [], differs: [], printed: 0, evil: [], leaks: [], keyboard: '' };

async function context(browser, options) {
  const context = await browser.newContext({ httpCredentials: asked.login, ...options });
  const page = await context.newPage();
  // Chromium itself says of a 404 that it is one.
  page.on('console', (message) => {
    if (!page.url().endsWith('/nothing')) seen.console.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => seen.console.push(`${page.url()}: ${error}`));
  page.on('dialog', (dialog) => { seen.console.push(dialog.message()); dialog.dismiss(); });
  return page;
}

const url = (path) => asked.base + path;
// The clock and the free space may have moved on.
const words = (page) => page.evaluate(() => document.body.innerText.replace(/[0-9]+/g, '#'));

async function inColours(browser) {
  for (const colorScheme of ['light', 'dark']) {
    const page = await context(browser, { colorScheme, bypassCSP: true, locale: colorScheme === 'dark' ? 'fr-FR' : 'en-GB' });
    for (const path of asked.paths) {
      await page.goto(url(path));
      await page.evaluate(axe.source);
      // Only colours are others in the dark.
      const rules = colorScheme === 'dark' ? { runOnly: ['color-contrast'] } : {};
      const found = await page.evaluate((rules) => window.axe.run(rules), rules);
      for (const one of found.violations) {
        seen.axe.push(`${colorScheme} ${path}: ${one.id} ${one.nodes.map((node) => node.html).join(' ')}`);
      }
    }
    await page.context().close();
  }
}

async function narrow(browser) {
  const page = await context(browser, {});
  for (const path of asked.paths) {
    await page.goto(url(path));
    for (const width of [320, 660, 760]) {
      await page.setViewportSize({ width, height: 640 });
      const needed = await page.evaluate(() => document.documentElement.scrollWidth);
      if (needed > width) seen.wide.push(`${path}: ${needed} of ${width}`);
    }
  }
  await page.context().close();
}

async function withoutScripts(browser) {
  const on = await context(browser, {});
  const off = await context(browser, { javaScriptEnabled: false });
  for (const path of asked.paths) {
    await on.goto(url(path));
    await off.goto(url(path));
    if (await words(on) !== await words(off)) seen.differs.push(path);
  }
  await on.goto(url('/'));
  await on.keyboard.press('Tab');
  seen.keyboard = await on.evaluate(() => document.activeElement.className);
  await on.keyboard.press('Enter');
  seen.keyboard += ` ${new URL(on.url()).hash}`;
  await on.goto(url(asked.printed));
  const pdf = await on.pdf({ format: 'A4' });
  seen.printed = (pdf.toString('latin1').match(/\/Type\s*\/Page\b/g) || []).length;
  await on.context().close();
  await off.context().close();
}

// Without the login: neither the port nor the socket may answer under another name.
async function rebound(browser) {
  const page = await browser.newPage();
  for (const port of asked.ports) {
    const answer = await page.goto(`http://evil.example:${port}/`);
    seen.evil.push(answer.status());
  }
  await page.close();
}

// A page of another site tries to read ours, where no password is asked for.
async function fromAnotherSite(browser) {
  const page = await browser.newPage();
  await page.goto(asked.stranger);
  const target = `http://localhost:${asked.open}/orders`;
  seen.leaks = await page.evaluate(async (target) => {
    const load = (tag, name) => new Promise((done) => {
      const element = document.createElement(tag);
      element.onload = () => done(`${tag} loaded`);
      element.onerror = () => done('');
      element[name] = target;
      document.body.append(element);
    });
    const read = (mode) => fetch(target, { mode, credentials: 'include' })
      .then((answer) => `fetch ${mode}: ${answer.type}`, () => '');
    const style = document.createElement('link');
    style.rel = 'stylesheet';
    document.head.append(style);
    const styled = new Promise((done) => {
      style.onload = () => done('style loaded');
      style.onerror = () => done('');
      style.href = target;
    });
    return (await Promise.all([load('img', 'src'), load('script', 'src'), styled, read('cors'), read('no-cors')]))
      .filter((leak) => leak !== '');
  }, target);
  await page.evaluate((target) => new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.onload = () => done();
    frame.src = target;
    document.body.append(frame);
  }), target);
  for (const frame of page.frames().slice(1)) {
    if ((await frame.content()).includes('paidup')) seen.leaks.push('frame');
  }
  // One that opens us learns nothing of the window, not even how many frames it has.
  const [popup] = await Promise.all([
    page.waitForEvent('popup'),
    page.evaluate((target) => { window.ours = window.open(target); }, target),
  ]);
  await popup.waitForLoadState();
  if (!await page.evaluate(() => window.ours.closed)) seen.leaks.push('popup');
  await popup.close();
  // A link is followed.
  await page.evaluate((target) => { location.href = target; }, target);
  await page.waitForURL(target);
  if (!(await page.content()).includes('ord_1')) seen.leaks.push('a visitor is turned away');
  await page.close();
}

async function pictures(browser) {
  for (const { path, file, options: { fullPage = true, ...options }, base } of asked.pictures) {
    const page = await context(browser, { viewport: { width: 900, height: 700 }, ...options, httpCredentials: base.login });
    await page.goto(base.url + path);
    await page.screenshot({ path: file, fullPage });
    await page.context().close();
  }
}

async function main() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium', args: quiet, chromiumSandbox: false,
  });
  for (const look of [inColours, narrow, withoutScripts, rebound, fromAnotherSite, pictures]) {
    const began = Date.now();
    await look(browser);
    console.error(`${look.name}: ${Date.now() - began} ms`);
  }
  await browser.close();
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(String(error.stack));
  process.exit(1);
});
