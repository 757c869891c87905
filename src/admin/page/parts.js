// What several views are made of.

import { h } from "./dom.js";
import { QUALITIES } from "./words.js";
import { ago, clock, percent } from "./units.js";

/** A sign that says the same as its colour, for whoever cannot tell colours. */
export function sign(name) {
  return h(
    "svg",
    { class: "sign", viewBox: "0 0 16 16", "aria-hidden": "true" },
    h("path", { d: SIGNS[name] ?? SIGNS.unknown }),
  );
}

/** A sign and a word, in the colour of the sign. */
export function mark(name, text = name) {
  return h("span", { class: `mark is-${name}` }, sign(name), text);
}

const SIGNS = {
  // Qualities of contexts.
  valid: "M3 8.5 6.5 12 13 4.5",
  missing: "M8 3a5 5 0 1 0 .01 0",
  invalid: "M4 4l8 8M12 4l-8 8",
  stale: "M12.5 8A4.5 4.5 0 1 1 11 4.6M11.5 2v3h-3",
  foreign: "M3 5.5h9M9.5 3l2.5 2.5L9.5 8M13 11H4M6.5 8.5 4 11l2.5 2.5",
  mixed: "M3 6h10M3 10h10M10.5 3l-5 10",
  // States of tasks.
  succeeded: "M3 8.5 6.5 12 13 4.5",
  failed: "M4 4l8 8M12 4l-8 8",
  refused: "M8 2.5a5.5 5.5 0 1 0 .01 0M4.2 4.2l7.6 7.6",
  rejected: "M8 2.5a5.5 5.5 0 1 0 .01 0M4.2 4.2l7.6 7.6",
  revoked: "M8 2.5a5.5 5.5 0 1 0 .01 0M5 8h6",
  retried: "M12.5 8A4.5 4.5 0 1 1 11 4.6M11.5 2v3h-3",
  running: "M5 3.5v9l7-4.5z",
  waiting: "M8 2.5a5.5 5.5 0 1 0 .01 0M8 5v3.2l2.2 1.6",
  unknown: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6M8 12.4v.1",
  // Others.
  ready: "M3 8.5 6.5 12 13 4.5",
  starting: "M8 2.5a5.5 5.5 0 1 0 .01 0M8 5v3.2l2.2 1.6",
  draining: "M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10",
  warning: "M8 2.5 14 13H2zM8 6.5v3M8 11.2v.1",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  live: "M8 5a3 3 0 1 0 .01 0",
  paused: "M5.5 4v8M10.5 4v8",
  reconnecting: "M12.5 8A4.5 4.5 0 1 1 11 4.6M11.5 2v3h-3",
  auto: "M8 2.5a5.5 5.5 0 1 0 .01 0M8 2.5v11",
  light: "M8 5.5a2.5 2.5 0 1 0 .01 0M8 1.5v1.5M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M12.6 3.4l-1 1M4.4 11.6l-1 1",
  dark: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z",
  close: "M4 4l8 8M12 4l-8 8",
  out: "M6.5 3.5h-3v9h9v-3M9 3h4v4M13 3 7.5 8.5",
};

/** How many messages came with a context of each quality, as a bar with a text. */
export function share(qualities, { text = true } = {}) {
  const whole = QUALITIES.reduce((sum, quality) => sum + (qualities[quality] ?? 0), 0);
  const parts = QUALITIES.filter((quality) => qualities[quality]);
  const words = parts.map((quality) => `${percent(qualities[quality], whole)} ${quality}`).join(", ");
  return h(
    "span",
    { class: "share" },
    h(
      "span",
      { class: "share-bar", role: "img", "aria-label": words || "no messages", title: words },
      parts.map((quality) =>
        h("span", {
          key: quality,
          class: `fill-${quality}`,
          style: { "flex-grow": String(qualities[quality]) },
        }),
      ),
    ),
    text && h("span", { class: "share-text", "aria-hidden": "true" }, words),
  );
}

/** The sum of several counts by quality. */
export function together(all) {
  const sum = Object.fromEntries(QUALITIES.map((quality) => [quality, 0]));
  for (const one of all) for (const quality of QUALITIES) sum[quality] += one[quality] ?? 0;
  return sum;
}

/** The quality, other than valid, that most messages have; valid where they are few. */
export function verdict(qualities) {
  const whole = QUALITIES.reduce((sum, quality) => sum + (qualities[quality] ?? 0), 0);
  const faults = QUALITIES.slice(1).sort((one, other) => (qualities[other] ?? 0) - (qualities[one] ?? 0));
  return (qualities[faults[0]] ?? 0) * 100 > whole ? faults[0] : "valid";
}

/**
 * A table. Where it is narrow its rows become cards, with the heading before each cell; the
 * roles are named since such a table would lose them.
 *
 * A column is `[heading, cell, class]`, its cell a function of the row.
 */
export function table(caption, columns, all, { key, empty = "None.", most = ROWS_MAX } = {}) {
  if (all.length === 0) return h("p", { class: "quiet" }, empty);
  const rows = all.slice(0, most);
  const cell = (row, [heading, content, kind = ""], index) => {
    const shown = content(row);
    return h(
      index === 0 ? "th" : "td",
      {
        role: index === 0 ? "rowheader" : "cell",
        scope: index === 0 && "row",
        class: shown === "0" ? `${kind} is-zero` : kind,
      },
      h("span", { class: "cell-label", "aria-hidden": "true" }, heading),
      h("span", { class: "cell-content" }, shown),
    );
  };
  return h(
    "div",
    { class: "table-frame" },
    h(
      "table",
      { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          columns.map(([heading, , kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, heading)),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        rows.map((row) =>
          h(
            "tr",
            { role: "row", key: key?.(row) },
            columns.map((column, index) => cell(row, column, index)),
          ),
        ),
      ),
    ),
    all.length > rows.length && h("p", { class: "quiet more" }, `${all.length - rows.length} more are not shown; narrow the search.`),
  );
}

/** A name that may be broken where its words end. */
export function breakable(name) {
  return name.split(/(?<=[._@/-])/).map((word, index) => [index > 0 && h("wbr"), word]);
}

/** A text that can be copied with one key. */
export function copyable(text, what, { short = false } = {}) {
  return h(
    "span",
    { class: short ? "copyable is-short" : "copyable" },
    h("code", { title: text }, short ? `${text.slice(0, 8)}…` : text),
    h(
      "button",
      { type: "button", class: "icon-button", "aria-label": `Copy ${what}`, title: `Copy ${what}`, onclick: () => copy(text, what) },
      sign("copy"),
    ),
  );
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
  } catch {
    // Only pages from HTTPS and from this machine may; whoever reads it elsewhere can mark it.
    say("The browser does not let this page copy. Mark the text and copy it yourself.");
  }
}

/** Tells those who listen to the page, and shows it for a while. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), SAID_MS);
}

/** When something was, as a distance with the exact time on demand. */
export function when(time, now) {
  if (!time) return "never";
  return h("time", { datetime: time, title: clock(time, now) }, ago(time, now));
}

export function figure(name, value, note, kind = "") {
  return h(
    "div",
    { class: `figure ${kind}`, key: name },
    h("dt", null, name),
    h("dd", null, h("b", null, value), note && h("span", { class: "quiet" }, note)),
  );
}

/** A text to search by. */
export function field(name, text, value, oninput, hint, { kind = "wide", invalid = false } = {}) {
  return h(
    "label",
    { class: `field ${kind}`, key: name },
    h("span", null, text),
    h("input", {
      name,
      type: "search",
      placeholder: hint,
      autocomplete: "off",
      spellcheck: "false",
      value: value ?? "",
      "aria-invalid": invalid && "true",
      oninput,
    }),
  );
}

/** Pairs of names and values; those without a value are left out. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value != null && value !== "" && value !== false)
      .map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
  );
}

export function notice(kind, ...content) {
  return h("div", { class: `notice is-${kind}` }, sign(kind === "bad" || kind === "warn" ? "warning" : kind), h("div", null, content));
}

/** Where an app's broker URL is to point, for each route. */
export function wayIn(routes) {
  return [
    h("p", null, "Point a broker URL at tracehop; nothing else of the app changes:"),
    h(
      "ul",
      { class: "plain" },
      (routes ?? []).map((route) => {
        // Whoever sees this page reaches the proxy by the page's own host.
        const listen = route.listen.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);
        const url = `${scheme(route)}://${listen}`;
        return h(
          "li",
          { key: route.name },
          copyable(url, "the URL"),
          h("span", { class: "quiet" }, ` in place of ${route.upstream} (route ${route.name})`),
        );
      }),
    ),
    h("p", { class: "quiet" }, "User, password and database or virtual host stay as they are in the app's URL."),
  ];
}

/** What the broker's own URL begins with, as secure as the way in is. */
function scheme({ upstream, tls_in, tls_out }) {
  const of = /^([a-z]+):/.exec(upstream)?.[1] ?? "broker";
  if (tls_in === tls_out) return of;
  return tls_in ? `${of}s` : of.slice(0, -1);
}



const SAID_MS = 4000;
const ROWS_MAX = 200;
