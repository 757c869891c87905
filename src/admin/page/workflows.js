// Recent workflows, to be searched.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { breakable, field, mark, notice, table, wayIn, when } from "./parts.js";
import { STATES } from "./words.js";
import { count, duration, milliseconds } from "./units.js";

export const label = "Workflows";
export const title = () => "Workflows";

/** What was fetched beyond the newest, for one search. */
let older = { search: "", traces: [], next: null };

function search(app) {
  const { q, queue, state, system, min } = app.place.parameters;
  return { q: q?.trim(), queue: queue?.trim(), state, system: system?.trim(), min_ms: milliseconds(min) };
}

export async function load(app) {
  const parameters = search(app);
  const answer = await ask("traces", { ...parameters, limit: PAGE });
  const text = JSON.stringify(parameters);
  if (older.search !== text) older = { search: text, traces: [], next: null };
  const newest = new Set(answer.traces.map(({ trace_id }) => trace_id));
  return {
    ...answer,
    traces: [...answer.traces, ...older.traces.filter(({ trace_id }) => !newest.has(trace_id))],
    next: older.traces.length > 0 ? older.next : answer.next,
  };
}

async function loadOlder(data, app) {
  const answer = await ask("traces", { ...search(app), limit: PAGE, before: data.next });
  older.traces.push(...answer.traces);
  older.next = answer.next;
  app.refresh();
}

export function draw(data, app) {
  const longest = Math.max(...data.traces.map(({ duration_ms }) => duration_ms ?? 0), 1);
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Workflows"),
    form(app),
    h(
      "p",
      { class: "quiet", key: "held" },
      `${count(data.traces.length)}${data.next ? "+" : ""} shown, newest first. The latest ${count(data.held)} of at most ${count(data.held_max)} are kept in memory.`,
    ),
    data.traces.length > 0 ? list(data, longest, app) : nothing(data, app),
    data.next &&
      h("p", { key: "older" }, h("button", { type: "button", onclick: () => loadOlder(data, app) }, "Show older ones")),
  ];
}

function form(app) {
  const { parameters } = app.place;
  const set = (name) => (event) => {
    app.narrow({ ...app.place.parameters, [name]: event.target.value });
    clearTimeout(form.timer);
    form.timer = setTimeout(app.refresh, TYPING_MS);
  };
  const text = (name, label, hint, more) => field(name, label, parameters[name], set(name), hint, { kind: "", ...more });
  return h(
    "form",
    { class: "filters", key: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    text("q", "Task or id", "shop.pay, a task id or a trace id", { kind: "wide" }),
    text("queue", "Queue", "celery"),
    h(
      "label",
      { class: "field", key: "state" },
      h("span", null, "State"),
      h(
        "select",
        { name: "state", onchange: set("state") },
        h("option", { value: "", selected: !parameters.state }, "any"),
        ["running", "succeeded", "failed", "waiting", "unknown"].map((state) =>
          h("option", { key: state, value: state, selected: parameters.state === state }, state),
        ),
      ),
    ),
    text("system", "Broker", "any"),
    text("min", "At least", "500 ms, 2 s", { invalid: Boolean(parameters.min) && milliseconds(parameters.min) === null }),
  );
}

function nothing(data, app) {
  if (data.held > 0) {
    return h(
      "section",
      { class: "card empty", key: "nothing" },
      h("h2", null, "Nothing matches"),
      h("p", null, "Task names match in part, ids from their beginning, queues in full. What is older than the workflows in memory is at your tracing backend."),
      h("p", null, h("a", { href: "#/workflows" }, "Show all")),
    );
  }
  return h(
    "section",
    { class: "card empty", key: "nothing" },
    h("h2", null, "No workflow has passed yet"),
    wayIn(app.status.routes),
  );
}

function list(data, longest, app) {
  const number = "number";
  return h(
    "div",
    { key: "list", class: "workflows" },
    table(
      "Workflows",
      [
        ["Workflow", (trace) => h("a", { href: `#/workflows/${encodeURIComponent(trace.trace_id)}` }, breakable(trace.root_task || "(root not seen)")), "wide"],
        ["State", ({ state }) => h("span", { title: STATES[state] }, mark(state))],
        ["Tasks", ({ tasks }) => count(tasks), number],
        ["Retries", ({ retries }) => (retries > 0 ? mark("retried", count(retries)) : "0"), number],
        ["Errors", ({ errors }) => (errors > 0 ? mark("failed", count(errors)) : "0"), number],
        ["Queues", ({ queues }) => h("span", { class: "cut", title: queues.join(", ") }, queues.join(", "))],
        ["Started", ({ started_at }) => when(started_at, app.now()), number],
        [
          "Duration",
          ({ duration_ms }) => [
            duration(duration_ms),
            h("span", { class: "length", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * Math.sqrt(duration_ms ?? 0)) / Math.sqrt(longest)}%` } })),
          ],
          "number duration",
        ],
      ],
      data.traces,
      { key: ({ trace_id }) => trace_id, most: Infinity },
    ),
  );
}

/** What the answer says of a search that cannot be carried out. */
export function refused(trouble, app) {
  return [h("h1", { key: "title", tabindex: "-1" }, "Workflows"), form(app), notice("bad", h("p", null, trouble.message))];
}

const PAGE = 100;
const TYPING_MS = 250;
