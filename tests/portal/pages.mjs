// The portal in a browser: signs in, looks at every page with axe-core, in light and dark and as narrow as a phone, and drives
// what the script does. Expects a coordinator with agents: see `run`.
//
//   node pages.mjs URL TOKEN_FILE [FOLDER FOR PICTURES]
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, token_file, pictures] = process.argv.slice(2);
const token = readFileSync(token_file, "utf8").trim();
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const wrong = [];
const check = (is_so, words) => { if (!is_so) { wrong.push(words); console.log(`WRONG: ${words}`); } };
if (pictures) mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });

async function visit(look, viewport) {
  const context = await browser.newContext({ colorScheme: look, viewport, bypassCSP: false });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error" && !/status of 40[0134]/.test(message.text())) wrong.push(`${page.url()}: ${message.text()}`); });
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error.message}`));
  return { context, page };
}

async function sign_in(page, next = "/") {
  await page.goto(base + next);
  check(page.url().includes("/signin"), "whoever is not known is sent to sign in");
  await page.fill("#token", token);
  await page.click("#signin button");
  await page.waitForURL((url) => url.pathname + url.search === next);
}

// axe runs by the debugger's door: a page's policy lets no other script in, and need not be weakened for the test.
async function look(page, path, name) {
  await page.goto(base + path);
  await page.waitForSelector("main h1");
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of found.violations) check(false, `${path} (${name}): ${id}: ${help}: ${nodes[0].html.slice(0, 200)} ${(nodes[0].any[0] || {}).message || ""}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `${path} (${name}) is ${wide} px wider than the window`);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}${path.replaceAll(/[^a-z0-9]+/g, "-").replace(/-$/, "") || "-tonight"}.png`, fullPage: true });
}

const wide = { width: 1280, height: 900 }, narrow = { width: 390, height: 844 };
const paths = ["/", "/jobs", "/agents", "/functions", "/policy", "/network", "/access", "/audit", "/signin", "/jobs/j9999"];
for (const [scheme, viewport, name] of [["light", wide, "light"], ["dark", wide, "dark"], ["light", narrow, "phone"]]) {
  const { context, page } = await visit(scheme, viewport);
  await look(page, "/signin", `${name}-out`);
  await sign_in(page, "/jobs");
  const job = await page.locator("#r-list tbody a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  const more = [];
  for (const path of job.slice(0, 3)) {
    more.push(path);
    await page.goto(base + path);
    const task = page.locator("#r-list tbody tr a[href*='/tasks/']").first();
    if (await task.count()) more.push(await task.getAttribute("href"));
  }
  await page.goto(base + "/agents");
  const agent = page.locator("#r-list tbody a").first();
  if (await agent.count()) more.push(await agent.getAttribute("href"));
  await page.goto(base + "/functions");
  const func = page.locator("table tbody a").first();
  if (await func.count()) more.push(await func.getAttribute("href"));
  for (const path of [...paths, ...more]) await look(page, path, name);
  await context.close();
}

// The script: keys, the look that is remembered, an error where it happened, and news without loading the page.
const { context, page } = await visit("light", wide);
await sign_in(page);
await page.keyboard.press("?");
check(await page.locator("#keys").isVisible(), "? lists the keys");
await page.keyboard.press("Escape");
await page.keyboard.press("g");
await page.keyboard.press("j");
await page.waitForURL("**/jobs");
await page.keyboard.press("Tab");
check(await page.locator(".skip").evaluate((link) => document.activeElement === link), "the first stop of the tab key skips to the page");
await page.click(".menu summary");
await page.selectOption("#theme", "dark");
await page.reload();
check((await page.locator("html").getAttribute("data-theme")) === "dark", "a look that was chosen is remembered");
await page.goto(base + "/policy");
await page.fill("input[name=value]", "soon");
await page.selectOption("select[name=key]", "idle");
await page.click("form.does button.main");
await page.waitForSelector(".told");
check((await page.locator(".told").innerText()).includes("soon"), "what is wrong is told beside the form");
await page.goto(base + "/access");
await page.fill("input[name=name]", `tried-${Date.now() % 100000}`);
await page.click("form.does button.main");
await page.waitForSelector(".told.fine pre");
check((await page.locator(".told.fine pre").innerText()).startsWith("lull_viewer_"), "a token is shown once");
await context.close();
await browser.close();

console.log(wrong.length ? `${wrong.length} things are wrong:\n${wrong.join("\n")}` : "all pages are well");
process.exit(wrong.length ? 1 : 0);
