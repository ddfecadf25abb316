// Optional for pages. Refreshes live elements and adds keyboard shortcuts.
"use strict";

const every = 2000; // ms

/** Fetches this page again and replaces its live elements. */
async function refresh() {
  const away = document.getElementById("away");
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(old.id);
      if (!now || now.outerHTML === old.outerHTML) continue;
      const focus = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
      old.replaceWith(now);
      if (focus) now.querySelector(`[href="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    }
    away.textContent = "";
  } catch {
    away.textContent = "Can't reach the host; this page may be outdated.";
  }
}

async function live() {
  if (document.visibilityState === "visible" && document.querySelector("[data-live]")) await refresh();
  setTimeout(live, every);
}

/** Shows the log of tasks, from the host's events. */
function follow(log) {
  const stories = new EventSource(log.dataset.events);
  const most = 2000; // lines
  stories.addEventListener("log", ({ data }) => {
    const { task, stream, text = "(binary data)\n" } = JSON.parse(data);
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    // remove terminal sequences
    for (const line of text.replace(/\u001b(\[[0-9;:?]*[@-~]|\][^\u0007\u001b]*(\u0007|\u001b\\))/g, "").split("\n")) {
      if (line === "") continue;
      const row = document.createElement("div");
      row.className = "line told";
      for (const [kind, words] of [["span", `${task} ${stream === "stderr" ? "err" : "out"}`], ["code", line]]) {
        const part = document.createElement(kind);
        part.textContent = words;
        if (kind === "span") part.className = "stream";
        row.append(part);
      }
      log.append(row);
    }
    while (log.childElementCount > most) log.firstElementChild.remove();
    log.parentElement.hidden = false;
    if (below) log.scrollTop = log.scrollHeight;
  });
  stories.addEventListener("ended", () => {
    stories.close();
    if (document.querySelector("[data-live]")) refresh();
  });
}

/** `/` focuses the search, Escape leaves it. */
function keys(event) {
  const search = document.getElementById("q");
  if (event.key === "Escape" && document.activeElement === search) search.blur();
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  search.focus();
  search.select();
}

async function copy(event) {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

// scroll wide graphs to the middle
for (const graph of document.querySelectorAll(".graph")) graph.scrollLeft = (graph.scrollWidth - graph.clientWidth) / 2;
// the clipboard is only available in secure contexts
if (navigator.clipboard) for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
for (const choice of document.querySelectorAll("[data-submits]")) choice.addEventListener("change", () => choice.form.requestSubmit());
for (const log of document.querySelectorAll("[data-events]")) follow(log);
document.addEventListener("keydown", keys);
document.addEventListener("click", copy);
setTimeout(live, every);
