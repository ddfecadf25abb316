// Visits the dashboard in Chromium. tests/dashboard.rs calls it with the pages to visit, as JSON.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(import.meta.dirname, "../../target/browser/package.json"));
const { chromium } = require("playwright-core");
const { source: axe } = require("axe-core");

const setting = JSON.parse(process.argv[2]);
const origin = new URL(setting.url).origin;
const SCHEMES = ["light", "dark"];
const WIDTHS = { desktop: [1280, 800], phone: [320, 640] };

/** Opens a window, and records its external requests, console errors and dialogs. */
async function open(browser, scheme, size) {
  const [width, height] = WIDTHS[size];
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce" });
  const seen = { elsewhere: [], errors: [] };
  await context.route("**/*", (route) => {
    const url = route.request().url();
    if (new URL(url).origin === origin) return route.continue();
    seen.elsewhere.push(url);
    return route.abort();
  });
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("dialog", (dialog) => {
    seen.errors.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(`${setting.url}?token=${setting.token}`);
  return { context, page, seen };
}

function check(seen, where) {
  assert.deepEqual(seen.elsewhere, [], `${where}: external requests`);
  assert.deepEqual(seen.errors, [], `${where}: errors`);
}

/** Checks that axe finds no violations. It is injected by the debugger, which bypasses the pages' content security policy. */
async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const told = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}\n  ${node.failureSummary}`));
  assert.deepEqual(told, [], where);
}

/** Visits every page in both colour schemes and widths. */
async function tour(browser) {
  for (const scheme of SCHEMES) {
    for (const size of Object.keys(WIDTHS)) {
      const { context, page, seen } = await open(browser, scheme, size);
      for (const [name, address] of Object.entries(setting.pages)) {
        const where = `${name} (${scheme}, ${size})`;
        const answer = await page.goto(setting.url + address);
        assert.equal(answer.status(), 200, where);
        if (name === "pipeline") {
          await page.locator("main table a").first().click();
          await page.getByRole("heading", { name: "Tasks" }).waitFor();
        }
        await page.waitForLoadState("load");
        const [is, fits] = await page.evaluate(() => [document.scrollingElement.scrollWidth, window.innerWidth]);
        assert.ok(is <= fits, `${where} is ${is} pixels wide in a window of ${fits}`);
        const outside = await page.evaluate(
          (base) => [...document.querySelectorAll("[href], [src], [action]")]
            .map((element) => element.getAttribute("href") ?? element.getAttribute("src") ?? element.getAttribute("action"))
            .filter((address) => !address.startsWith(base) && !address.startsWith("#")),
          new URL(setting.url).pathname,
        );
        assert.deepEqual(outside, [], `${where}: links that leave the host`);
        await accessible(page, where);
        const file = `dashboard-${name}-${scheme}-${size}.png`;
        await page.screenshot({ path: path.join(setting.screenshots, file), fullPage: size === "phone" });
        check(seen, where);
      }
      await context.close();
    }
  }
}

/** Checks the error pages. */
async function wrong(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  for (const [address, status, message] of setting.wrong) {
    const answer = await page.goto(setting.url + address);
    assert.equal(answer.status(), status, address);
    assert.equal(await page.textContent("h1"), message);
    await accessible(page, address);
    await page.screenshot({ path: path.join(setting.screenshots, "dashboard-wrong.png") });
  }
  assert.deepEqual(seen.elsewhere, []);
  await context.close();
}

async function keyboard(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  await page.goto(setting.url);
  await page.keyboard.press("Tab");
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  assert.equal(await focused(), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.keyboard.press("/");
  assert.equal(await focused(), "q");
  await page.keyboard.type("train/");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/search?q=train%2F");
  await page.fill("#q", "train");
  await page.press("#q", "Enter");
  await page.waitForURL("**/search?q=train");
  // the first step found links to its runs, and the first run to its page
  await page.locator("main table a").first().press("Enter");
  await page.waitForURL("**/runs?step=train");
  await page.selectOption("select[name=outcome]", "succeeded");
  await page.waitForURL("**/runs?*outcome=succeeded*");
  await page.locator("main table a").first().press("Enter");
  await page.waitForURL("**/runs/*");
  await page.locator("form.compare button").press("Enter");
  await page.waitForURL("**/compare/*/*");
  await page.goto(setting.url);
  // keyboard focus is visible
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid");
  check(seen, "keyboard");
  await context.close();
}

/** The overview updates itself, and keeps its content while the host is unreachable. */
async function live(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  await page.goto(setting.url);
  const begun = page.waitForRequest((request) => request.resourceType() === "fetch");
  await begun;
  // ignore the ages of runs, which change all the time
  const shown = async () => (await page.textContent("main")).replace(/[\d.]+ (s|min)/g, "");
  const text = await shown();
  await context.unroute("**/*");
  await context.route("**/*", (route) => route.abort());
  await page.getByText("Can't reach the host").waitFor();
  assert.equal(await shown(), text);
  assert.deepEqual(seen.elsewhere, []);
  await context.close();
}

/** Shows endless work and cancels it. */
async function cancel(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  await page.goto(`${setting.url}pipelines`);
  await page.locator("main table a").first().click();
  await page.locator(".status.busy").first().waitFor();
  await page.getByRole("button", { name: "Cancel" }).press("Enter");
  await page.locator(".title .status.warn", { hasText: "interrupted" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Cancel" }).count(), 0);
  check(seen, "cancel");
  await context.close();
}

/** Draws the curves of several runs, then of fewer. */
async function curves(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  await page.goto(setting.url + setting.pages.curves);
  assert.equal(await page.locator(".preview polyline").count(), 1);
  // the metric of each run, over both runs
  const over = page.locator("section", { has: page.getByRole("heading", { name: "Metrics of the step" }) });
  assert.equal((await over.locator("polyline").getAttribute("points")).split(" ").length, 2);
  await over.getByRole("link", { name: "Compare curves" }).click();
  await page.waitForURL("**/curves?step=learn");
  const drawn = () => page.locator(".chart polyline").evaluateAll((lines) => lines.map((line) => line.getAttribute("points").split(" ").length));
  // twenty rounds each
  assert.deepEqual(await drawn(), [20, 20]);
  assert.equal(await page.locator(".legend li").count(), 2);
  await page.locator("form.choice input[type=checkbox]").first().uncheck();
  await page.getByRole("button", { name: "Draw" }).press("Enter");
  await page.waitForURL("**/curves?step=learn&run=*");
  assert.deepEqual(await drawn(), [20]);
  await page.goto(setting.url + setting.pages["compare-curves"]);
  assert.deepEqual(await drawn(), [20, 20]);
  await page.getByText("loss (last)").waitFor();
  check(seen, "curves");
  await context.close();
}

/** Stops a kernel. */
async function kernels(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  const authorization = `Bearer ${setting.token}`;
  const env = { JPY_SESSION_NAME: "/home/ann/<b>wines.ipynb" };
  const answer = await page.request.post(`${setting.url}api/kernels`, { headers: { authorization }, data: { env } });
  assert.equal(answer.status(), 201);
  await page.goto(`${setting.url}kernels`);
  await page.getByText("<b>wines.ipynb", { exact: true }).waitFor();
  await accessible(page, "kernels");
  await page.screenshot({ path: path.join(setting.screenshots, "dashboard-kernels-one.png") });
  await page.getByRole("link", { name: /^Stop/ }).press("Enter");
  await page.getByRole("heading", { name: "Stop the kernel <b>wines.ipynb?" }).waitFor();
  await accessible(page, "stop a kernel");
  await page.getByRole("link", { name: "Back" }).press("Enter");
  await page.getByRole("link", { name: /^Stop/ }).press("Enter");
  await page.getByRole("button", { name: "Stop kernel" }).press("Enter");
  await page.getByText("No active kernels.").waitFor();
  check(seen, "kernels");
  await context.close();
}

/** Visits artifacts with hostile content, which must not run. */
async function hostile(browser) {
  const { context, page, seen } = await open(browser, "light", "desktop");
  for (const address of setting.pages.hostile) {
    await page.goto(setting.url + address);
    await page.waitForLoadState("networkidle");
    await page.screenshot({ path: path.join(setting.screenshots, "dashboard-hostile.png") });
    assert.equal(await page.evaluate(() => window.pwned), undefined, address);
    assert.equal(await page.evaluate(() => document.querySelectorAll("script:not([src]), [onload], [onerror], iframe, object").length), 0, address);
    check(seen, address);
  }
  // a picture opened directly is sandboxed
  for (const digest of setting.pages.pictures) {
    const answer = await page.goto(`${setting.url}artifacts/${digest}/picture`);
    assert.match(answer.headers()["content-security-policy"], /^default-src 'none'; .*sandbox$/);
    assert.equal(answer.headers()["x-content-type-options"], "nosniff");
    await page.waitForLoadState("networkidle");
    assert.equal(await page.evaluate(() => document.documentElement.getAttribute("data-pwned")), null);
  }
  assert.deepEqual(seen.elsewhere, []);
  // every artifact is downloaded, not displayed
  for (const digest of setting.pages.downloads) {
    const saved = page.waitForEvent("download");
    await page.goto(`${setting.url}artifacts/${digest}/download?name=a%22b%0D%0A.html`).catch(() => {});
    assert.equal((await saved).suggestedFilename(), "a_b__.html");
  }
  await context.close();
}

const browser = await chromium.launch({ executablePath: setting.browser, args: ["--no-sandbox"] });
try {
  const scenes = { tour, wrong, keyboard, live, cancel, curves, kernels, hostile };
  await scenes[setting.scene](browser);
} finally {
  await browser.close();
}
