// Plays a scenario in JupyterLab: node notebook.mjs SCENARIO SETTING
//
// SETTING is JSON: `url` and `token` of the server, its PID `server`, the file with the PID of the kernels' `host` if there is one, the command
// `kubectl` if kernels are in pods, the `browser` to start, and the directory `screenshots`.
// Prints nothing and exits with 0 on success. Otherwise prints the error and the page's text, and writes a screenshot.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { chromium } from '../../target/browser/node_modules/playwright-core/index.mjs';

// timeout of a cell or the kernel's start in ms; a loaded machine may take many times longer than an idle one
const PATIENCE = 60_000;
// timeout in ms for changes that the page shows at once
const SOON = 20_000;

const [scenario, setting] = process.argv.slice(2);
const { url, token, server, host, kubectl, browser: executablePath, screenshots } = JSON.parse(setting);

const scenarios = { cells, control, restore, penguins, hosted, pods };

/** Starts a notebook from the launcher, and checks every kind of output. */
async function cells(page) {
  await page.goto(`${url}lab?token=${token}`);
  await page.locator('.jp-LauncherCard[data-category="Notebook"]', { hasText: 'Lockstep (Rust)' }).click({ timeout: PATIENCE });
  const notebook = await Notebook.opened(page);

  await (await notebook.run('6 * 7')).shows(/^\s*42\s*$/);
  await (await notebook.run('let counted = 2; let counting = 3;\nprintln!("printed {}", counted + counting);')).shows('printed 5');

  const table = await notebook.run('Table::new([("x", vec![1.0, 2.5])])?');
  await table.shows('x', 'table th');
  await table.shows('2.5', 'table td');

  const figure = await notebook.run(FIGURE);
  await figure.picture();
  await page.screenshot({ path: `${screenshots}/cells.png` });

  await highlighted(figure);
  await completed(notebook);

  const wrong = await notebook.run('let fine = 1;\nlet count: i32 = "text";');
  await wrong.shows('[6]:2:18');
  await wrong.shows('mismatched types', '.ansi-bold, [class*="-fg"]');
  await wrong.root.scrollIntoViewIfNeeded();
  await page.screenshot({ path: `${screenshots}/error.png` });
}

const FIGURE = `// squares, as bars
let bar = |x: i32| format!("<rect x='{}' y='{}' width='24' height='{}'/>", 30 * x, 150 - x * x, x * x);
let bars: String = (1..=12).map(bar).collect();
let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='400' height='160' fill='#1f6feb'>";
Figure::svg(format!("{svg}{bars}</svg>"))`;

/** Checks that keywords, comments and numbers have different colours. */
async function highlighted(cell) {
  const colour = (text) => cell.root.locator('.cm-line span', { hasText: text }).first().evaluate((span) => getComputedStyle(span).color);
  const colours = new Set([await colour(/^let$/), await colour(/^\/\/ squares/), await colour(/^30$/)]);
  check(colours.size === 3, `the code is not highlighted: ${[...colours]}`);
}

/** Checks that Tab offers the session's variables and Enter accepts the first. */
async function completed(notebook) {
  const cell = await notebook.type('coun');
  await notebook.page.keyboard.press('Tab');
  // matches of the kernel have a type, matches of the page's own word list do not
  const offered = notebook.page.locator('.jp-Completer-item[title="instance"]');
  await offered.filter({ hasText: 'counting' }).waitFor();
  await offered.filter({ hasText: 'counted' }).waitFor();
  await notebook.page.keyboard.press('Enter');
  await offered.first().waitFor({ state: 'hidden' });
  await notebook.page.keyboard.press('Shift+Enter');
  await (await cell.done()).shows(/^\s*2\s*$/);
}

/** An interrupt keeps variables; a restart does not. */
async function control(page) {
  const notebook = await Notebook.open(page, 'control.ipynb');
  await notebook.run('let kept = vec![3, 4];');

  await notebook.interrupt();
  await (await notebook.run('kept.len()')).shows(/^\s*2\s*$/);

  await notebook.restart();
  await (await notebook.run('kept.len()')).shows('cannot find value `kept`');
  await (await notebook.run('let anew = 20;\nanew + 1')).shows(/^\s*21\s*$/);
}

/** A kernel that dies restores its variables; after a restart by the user, `:restore` does. */
async function restore(page) {
  const notebook = await Notebook.open(page, 'restore.ipynb');
  await notebook.run('let kept = vec![3, 4];\nlet table = Table::new([("x", vec![1.0, 2.5])])?;');
  await (await notebook.run('table.rows() + kept.len()')).shows(/^\s*4\s*$/);

  process.kill(kernel(), 'SIGKILL');
  await page.locator('.jp-Dialog', { hasText: 'restart automatically' }).locator('button.jp-mod-accept').click({ timeout: PATIENCE });
  await notebook.ready();
  await (await notebook.run('kept.iter().sum::<i32>()')).shows(/^\s*7\s*$/);
  await (await notebook.run('table')).shows('2.5', 'table td');
  await page.screenshot({ path: `${screenshots}/restored.png` });

  await notebook.restart();
  await (await notebook.run('kept.len()')).shows('cannot find value `kept`');
  await notebook.run(':restore');
  await (await notebook.run('kept.len()')).shows(/^\s*2\s*$/);
}

/** The host is killed while a cell runs, and restarted: the cell completes with its output and takes effect once. */
async function hosted(page) {
  const notebook = await Notebook.open(page, 'hosted.ipynb');
  await (await notebook.run('let mut list = vec![3, 4];\nlist.len()')).shows(/^\s*2\s*$/);

  const long = await notebook.start(`println!("begun"); list.push(5);\n${LONG}\nformat!("ended {}", n % 2)`);
  await long.shows('begun');
  const before = readFileSync(host, 'utf8');
  process.kill(Number(before), 'SIGKILL');
  await (await long.done()).shows('ended');
  check(readFileSync(host, 'utf8') !== before, 'the host was not restarted');
  await (await notebook.run('list.len()')).shows(/^\s*3\s*$/);
  await page.screenshot({ path: `${screenshots}/hosted.png` });

  await notebook.interrupt();
  await (await notebook.run('list.len()')).shows(/^\s*3\s*$/);

  await notebook.menu('Kernel', /^Restart Kernel…$/);
  const restarted = page.waitForResponse((response) => response.url().includes('/restart'), { timeout: PATIENCE });
  await page.locator('.jp-Dialog button.jp-mod-accept', { hasText: 'Restart' }).click();
  await restarted;
  await notebook.ready();
  await (await notebook.run('list.len()')).shows('cannot find value `list`');
}

/** The kernel's pod is killed while a cell runs: the cell completes with its output and takes effect once. The host's pod is killed: the
 * kernel's pod stays. It is deleted with the kernel. */
async function pods(page) {
  const notebook = await Notebook.open(page, 'pods.ipynb');
  await (await notebook.run('let mut list = vec![3, 4];\nlist.len()')).shows(/^\s*2\s*$/);
  const [first] = podsOf('kernel');

  const long = await notebook.start(`println!("begun"); list.push(5);\n${LONG}\nformat!("ended {}", n % 2)`);
  await long.shows('begun');
  killPods('kernel');
  await (await long.done()).shows('ended');
  await (await notebook.run('list.len()')).shows(/^\s*3\s*$/);
  const [second, ...others] = podsOf('kernel');
  check(second && second !== first && others.length === 0, `the kernel should have exactly one new pod besides ${first}: ${[second, ...others]}`);

  killPods('host');
  await (await notebook.run('list.iter().sum::<i32>()')).shows(/^\s*12\s*$/);
  check(`${podsOf('kernel')}` === second, `the kernel's pod should still be ${second}: ${podsOf('kernel')}`);
  await page.screenshot({ path: `${screenshots}/pods.png` });

  await notebook.interrupt();
  await (await notebook.run('list.len()')).shows(/^\s*3\s*$/);

  await notebook.menu('Kernel', /^Shut Down Kernel$/);
  const begun = Date.now();
  while (podsOf('kernel').length > 0) {
    check(Date.now() - begun < PATIENCE, `pods are left after kernel shutdown: ${podsOf('kernel')}`);
    await page.waitForTimeout(100);
  }
}

/** Returns the names of the pods of kernels or hosts. */
function podsOf(component) {
  return kube('get', 'pods', '-l', `app.kubernetes.io/component=${component}`, '-o', 'jsonpath={.items[*].metadata.name}').split(' ').filter(Boolean);
}

/** Kills the pods of kernels or hosts without a grace period. */
function killPods(component) {
  kube('delete', 'pods', '-l', `app.kubernetes.io/component=${component}`, '--grace-period=0', '--force');
}

function kube(...words) {
  const [program, ...first] = kubectl;
  return execFileSync(program, [...first, ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const LONG = 'let mut n = 0_u64; for i in 0..150_000_000_u64 { n = std::hint::black_box(n ^ i); }';

/** Runs the example from top to bottom without errors. */
async function penguins(page) {
  const notebook = await Notebook.open(page, 'penguins.ipynb');
  await notebook.menu('Run', 'Run All Cells');
  const last = notebook.cell(await notebook.cells.count() - 1);
  await last.done();
  await last.picture();
  for (const cell of await notebook.cells.all()) {
    check(await cell.locator('[data-mime-type="application/vnd.jupyter.error"]').count() === 0, await cell.innerText());
  }
  // for the screenshot: no visible cell is selected or under the mouse, and the window fits the last three
  await notebook.cells.first().locator('.jp-InputPrompt').click();
  await page.mouse.move(640, 14);
  await page.setViewportSize({ width: 1280, height: 1010 });
  await last.root.evaluate((cell) => cell.scrollIntoView({ block: 'end' }));
  await page.screenshot({ path: `${screenshots}/penguins.png` });
}

/** The active notebook. */
class Notebook {
  constructor(page) {
    this.page = page;
    this.cells = page.locator('.jp-NotebookPanel .jp-CodeCell');
  }

  static async open(page, path) {
    await page.goto(`${url}lab/tree/${path}?token=${token}`);
    return Notebook.opened(page);
  }

  static async opened(page) {
    const notebook = new Notebook(page);
    await notebook.cells.first().locator('.cm-content').waitFor({ timeout: PATIENCE });
    await notebook.ready();
    return notebook;
  }

  cell(index) {
    return new Cell(this.cells.nth(index));
  }

  /** Waits until the kernel is ready. The page shows `idle` even before there is a kernel. */
  async ready() {
    await this.page.waitForFunction(async () => {
      const { sessionContext } = window.jupyterapp.shell.currentWidget;
      await sessionContext.ready;
      const { kernel } = sessionContext.session;
      await kernel.info;
      return kernel.connectionStatus === 'connected' && kernel.status === 'idle';
    }, undefined, { timeout: PATIENCE });
  }

  /** Types `code` into the last cell. */
  async type(code) {
    const cell = this.cell(await this.cells.count() - 1);
    await cell.root.locator('.cm-content').click();
    await this.page.keyboard.insertText(code);
    return cell;
  }

  /** Runs `code` in the last cell, below which a new one appears. */
  async start(code) {
    const cell = await this.type(code);
    const before = await this.cells.count();
    await this.page.keyboard.press('Shift+Enter');
    await this.cells.nth(before).waitFor();
    return cell;
  }

  /** Runs `code` in the last cell and waits for its end. */
  async run(code) {
    return (await this.start(code)).done();
  }

  /** Runs an endless cell and interrupts it. */
  async interrupt() {
    const endless = await this.start('println!("running");\nloop {}');
    await endless.shows('running');
    await this.page.locator('.jp-NotebookPanel-toolbar [data-command="notebook:interrupt-kernel"]').click();
    await (await endless.done()).shows('Interrupted');
  }

  async menu(name, item) {
    await this.page.locator('.lm-MenuBar-item', { hasText: name }).click();
    await this.page.locator('.lm-Menu-itemLabel', { hasText: item }).first().click();
  }

  async restart() {
    const before = kernel();
    await this.menu('Kernel', /^Restart Kernel…$/);
    const restarted = this.page.waitForResponse((response) => response.url().includes('/restart'), { timeout: PATIENCE });
    await this.page.locator('.jp-Dialog button.jp-mod-accept', { hasText: 'Restart' }).click();
    await restarted;
    await this.ready();
    check(kernel() !== before, 'the kernel was not restarted: its process is the same');
  }
}

class Cell {
  constructor(root) {
    this.root = root;
  }

  /** Waits until the cell has been executed. */
  async done() {
    await this.root.locator('.jp-InputPrompt', { hasText: /\[\d+\]/ }).waitFor({ timeout: PATIENCE });
    return this;
  }

  /** Waits until an element of the output has `text`. */
  async shows(text, element = '') {
    const output = this.root.locator(`.jp-OutputArea-output ${element}`);
    await output.filter({ hasText: text }).first().waitFor();
  }

  /** Waits until the output has a picture that the browser can draw. */
  async picture() {
    const picture = this.root.locator('.jp-OutputArea-output[data-mime-type="image/svg+xml"] img');
    await picture.waitFor();
    const width = await picture.evaluate(async (img) => { await img.decode(); return img.naturalWidth; });
    check(width > 0, 'the picture is empty');
  }
}

/** Returns the PID of the kernel among the server's descendants. */
function kernel() {
  const parents = new Map();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    // pid (name) state parent; the name may contain spaces and parentheses
    const fields = read(`/proc/${entry}/stat`).split(') ').at(-1).split(' ');
    parents.set(Number(entry), Number(fields[1]));
  }
  const below = (process) => process === server || (parents.has(process) && below(parents.get(process)));
  const isKernel = (process) => read(`/proc/${process}/cmdline`).includes('\0kernel\0run\0');
  const found = [...parents.keys()].filter((process) => below(process) && isKernel(process));
  check(found.length === 1, `the server should have one kernel; it has ${found.length}`);
  return found[0];
}

/** Returns the text of a file in /proc; empty if the process is gone. */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function check(holds, message) {
  if (!holds) throw new Error(message);
}

async function main() {
  mkdirSync(screenshots, { recursive: true });
  const { hostname } = new URL(url);
  const browser = await chromium.launch({
    executablePath,
    args: ['--disable-gpu', '--disable-quic', `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${hostname}`],
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, deviceScaleFactor: 1 });
  page.setDefaultTimeout(SOON);
  const said = [];
  page.on('console', (message) => message.type() === 'error' && said.push(message.text()));
  page.on('pageerror', (error) => said.push(error.stack));
    try {
    await scenarios[scenario](page);
  } catch (error) {
    const path = `${screenshots}/failed-${scenario}.png`;
    await page.screenshot({ path });
    const text = await page.locator('body').innerText();
    console.error([error.stack, `--- the page (${path})`, text, '--- its console', ...said].join('\n'));
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

await main();
