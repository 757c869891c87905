// Who sends which task with which context, and what is to be done about it.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { breakable, copyable, field, figure, mark, share, table, wayIn, when } from "./parts.js";
import { INVALID, QUALITIES, QUALITY } from "./words.js";
import { count, percent } from "./units.js";

export const label = "Quality";
export const title = () => "Context quality";

export async function load() {
  const report = await ask("quality");
  const findings = report.entries.flatMap((entry) => entry.contexts.map((found) => ({ ...found, entry })));
  const counted = Object.fromEntries(QUALITIES.map((quality) => [quality, 0]));
  for (const { quality, messages } of [...findings, ...report.other.contexts]) counted[quality] += messages;
  return { ...report, findings, counted };
}

export function draw(report, app) {
  const messages = QUALITIES.reduce((sum, quality) => sum + report.counted[quality], 0);
  if (messages === 0) return empty(app);
  const { q = "", kind = "" } = app.place.parameters;
  const wanted = report.findings.filter((finding) => matches(finding, q.trim().toLowerCase()));
  // What is broken comes before what is only not there.
  const kinds = ["invalid", "mixed", "stale", "foreign", "missing"]
    .filter((quality) => report.counted[quality] > 0 && (!kind || kind === quality));
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Context quality"),
    h("p", { class: "quiet lead", key: "lead" }, "With which trace context messages come, since tracehop was started; counted where this proxy sees each of them first."),
    h(
      "section",
      { class: "card", key: "whole" },
      h("p", { class: "share-large" }, share(report.counted, { text: false })),
      h(
        "dl",
        { class: "figures" },
        QUALITIES.filter((quality) => quality === "valid" || report.counted[quality] > 0).map((quality) =>
          figure(mark(quality), percent(report.counted[quality], messages), count(report.counted[quality]), quality),
        ),
      ),
    ),
    filters(report, app),
    kinds.map((quality) => section(quality, wanted, report, app)),
    kinds.length === 0 &&
      h(
        "section",
        { class: "card", key: "well" },
        h("h2", null, kind ? `No context is ${kind}` : "All contexts are as they should be"),
        h("p", null, "There is nothing to do."),
      ),
    (!kind || kind === "valid") && section("valid", wanted, report, app),
    report.other.messages > 0 &&
      h(
        "p",
        { class: "quiet", key: "other" },
        `${count(report.other.messages)} more came from senders beyond limits.quality_entries_max, or from somebody whom no broker has let in.`,
      ),
  ];
}

function empty(app) {
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Context quality"),
    h("section", { class: "card empty", key: "empty" }, h("h2", null, "No Celery message has passed yet"), wayIn(app.status.routes)),
  ];
}

function filters(report, app) {
  const { q, kind } = app.place.parameters;
  const chip = (quality, text) =>
    h(
      "button",
      {
        key: quality,
        type: "button",
        class: "chip",
        "aria-pressed": String((kind ?? "") === quality),
        onclick: () => app.narrow({ q, kind: quality }),
      },
      text,
    );
  return h(
    "form",
    { class: "filters", key: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    field("q", "Find", q, (event) => app.narrow({ q: event.target.value, kind }), "task, queue, producer or task id"),
    h(
      "div",
      { class: "chips", role: "group", "aria-label": "Quality" },
      chip("", "all"),
      QUALITIES.filter((quality) => report.counted[quality] > 0).map((quality) => chip(quality, mark(quality))),
    ),
  );
}

function matches({ entry, reason, example_task_id }, text) {
  const { host, client_name, address } = entry.producer;
  return [entry.task, entry.destination, entry.system, host, client_name, address, reason, example_task_id].some((field) =>
    field?.toLowerCase().includes(text),
  );
}

/** One kind of context: what it means, what to do, and who sends it. */
function section(quality, wanted, report, app) {
  const found = wanted.filter((finding) => finding.quality === quality);
  const { means, acts, remedy } = QUALITY[quality];
  const setting = acts && app.status.config.find(({ key }) => key === acts.key)?.value;
  const observes = app.status.config.some(({ key, value }) => key === "policy.mode" && value === "observe");
  const act = observes && acts ? (acts.observe ?? "policy.mode is “observe”: tracehop only reports, and the message goes on as it is.") : acts?.[setting];
  const reasons = [...new Set(found.map(({ reason }) => reason).filter(Boolean))];
  return h(
    "section",
    { class: "card kind", key: quality, "data-quality": quality },
    h("h2", null, mark(quality), h("span", { class: "quiet" }, ` ${count(report.counted[quality])} messages`)),
    h("p", null, means, " ", act),
    quality !== "valid" &&
      h(
        "div",
        { class: "remedy" },
        h("h3", null, "What to do"),
        h(
          "ul",
          null,
          remedy.map((step, index) => h("li", { key: index }, step)),
          reasons.map((reason) =>
            h("li", { key: reason, "data-reason": reason }, h("code", null, reason), " ", (INVALID[reason] ?? []).join(" ")),
          ),
        ),
      ),
    table(
      `Who sends ${quality} contexts`,
      [
        ["Task", ({ entry }) => h("b", null, breakable(entry.task || "(no name)")), "wide"],
        ["Producer", ({ entry }) => producer(entry.producer), "wide"],
        ["Queue", ({ entry }) => [breakable(entry.destination), " ", h("span", { class: "tag" }, entry.system)], "wide"],
        reasons.length > 0 && ["Reason", ({ reason }) => h("code", null, reason), "wide whole"],
        ["Messages", ({ messages }) => count(messages), "number"],
        ["Of its own", ({ entry }) => share(qualitiesOf(entry), { text: false })],
        ["Last seen", ({ last_seen }) => when(last_seen, app.now()), "number"],
        ["Example", ({ example_task_id }) => example(example_task_id), "wide"],
      ].filter(Boolean),
      found.sort((one, other) => other.messages - one.messages),
      { key: rowKey, empty: "None of them matches." },
    ),
  );
}

function rowKey({ entry, quality, reason }) {
  return JSON.stringify([entry.task, entry.destination, entry.system, entry.producer, quality, reason]);
}

function producer({ host, client_name, address }) {
  const names = [host, client_name, address].filter(Boolean);
  if (names.length === 0) return h("span", { class: "quiet" }, "unknown");
  return [breakable(names[0]), names.length > 1 && h("span", { class: "quiet" }, ` ${names.slice(1).join(" · ")}`)];
}

function qualitiesOf(entry) {
  const sum = {};
  for (const { quality, messages } of entry.contexts) sum[quality] = (sum[quality] ?? 0) + messages;
  return sum;
}

function example(id) {
  if (!id) return h("span", { class: "quiet" }, "none");
  const found = h("a", { href: `#/workflows?q=${encodeURIComponent(id)}` }, "find", h("span", { class: "unseen" }, ` ${id}`));
  return h("span", { class: "row" }, copyable(id, "the task id", { short: true }), found);
}
