// One workflow: what waited and what ran, of every task and attempt.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { copyable, facts, mark, notice, sign } from "./parts.js";
import { EVIDENCE, INVALID, ORIGINS, STATES } from "./words.js";
import { NONE, clock, duration, plural } from "./units.js";

export const label = "Workflows";
export const title = ({ item }) => `Workflow ${item.slice(0, 8)}`;

/** The row whose details are open, by its key. */
let open = null;

export async function load(app) {
  const trace = await ask(`traces/${encodeURIComponent(app.place.item)}`);
  return { ...trace, rows: rows(trace) };
}

/** One row for each attempt, with its bars. */
function rows(trace) {
  return trace.tasks.flatMap((task) =>
    task.attempts.map((attempt, index) => ({
      key: `${task.task_id}/${attempt.retries}/${index}`,
      task,
      attempt,
      first: index === 0,
      last: index === task.attempts.length - 1,
    })),
  );
}

export function draw(trace, app) {
  const { status } = app;
  const attempts = trace.rows.length;
  const retries = trace.rows.filter(({ attempt }) => attempt.retries > 0).length;
  const root = trace.tasks[0];
  const backend = linkOut(status.trace_url, trace.trace_id);
  return [
    h("p", { key: "back" }, h("a", { href: "#/workflows" }, "← All workflows")),
    h("div", { class: "row wrap", key: "title" }, h("h1", { tabindex: "-1" }, root?.task || "(root not seen)"), mark(trace.state)),
    h(
      "div",
      { class: "row wrap ids", key: "ids" },
      h("span", { class: "quiet" }, "Trace"),
      copyable(trace.trace_id, "the trace id"),
      backend && h("a", { class: "button", href: backend, target: "_blank", rel: "noreferrer" }, sign("out"), "Open in the tracing backend"),
    ),
    h(
      "p",
      { class: "quiet", key: "summary" },
      [
        `Started ${clock(trace.started_at, app.now())}`,
        duration(trace.duration_ms),
        plural(trace.tasks.length, "task"),
        plural(attempts, "attempt"),
        plural(retries, "retry", "retries"),
      ].join(" · "),
    ),
    !trace.sampled && notice("info", h("p", null, "This trace is not sampled: it is shown here, and its spans are not exported.")),
    trace.truncated && notice("warn", h("p", null, "This workflow has more tasks than are kept of one; the rest is not shown.")),
    legend(),
    waterfall(trace, app),
  ];
}

export function refused(trouble) {
  return [
    h("p", { key: "back" }, h("a", { href: "#/workflows" }, "← All workflows")),
    h("h1", { key: "title", tabindex: "-1" }, "This workflow is not here"),
    h("p", null, trouble.message),
    h("p", { class: "quiet" }, "The newest workflows alone are kept in memory; your tracing backend has the others."),
  ];
}

/** The address of the trace at the backend; only what is opened as a page is a link. */
function linkOut(template, id) {
  const address = template?.replaceAll("{trace_id}", encodeURIComponent(id));
  return /^https?:\/\//.test(address ?? "") ? address : null;
}

/** What the parts of a row mean. */
const BARS = {
  delay: "held back by the broker",
  dwell: "waiting in the queue",
  eta: "waiting for its ETA",
  prefetch: "prefetched by a worker",
  run: "running",
  ran: "ran",
  unknown: "with a worker; when it ran is not known",
};

function legend() {
  return h(
    "ul",
    { class: "plain row wrap legend", key: "legend", "aria-label": "Legend" },
    ["delay", "dwell", "eta", "prefetch", "run", "unknown"].map((kind) =>
      h("li", { key: kind, class: "row" }, h("span", { class: `bar is-${kind}`, "aria-hidden": "true" }), BARS[kind]),
    ),
    ["succeeded", "retried", "failed"].map((state) =>
      h("li", { key: state, class: "row" }, h("span", { class: `bar is-run ended-${state}`, "aria-hidden": "true" }), `ran, ${state}`),
    ),
  );
}

function waterfall(trace, app) {
  const scale = scaleOf(trace, app.now());
  return h(
    "div",
    { class: "waterfall", key: "waterfall" },
    h(
      "div",
      { class: "axis", "aria-hidden": "true" },
      h("span", null, "Task"),
      h(
        "span",
        { class: "ticks" },
        scale.ticks.map((tick) => h("span", { key: tick, style: { left: scale.place(scale.begin + tick) } }, duration(tick))),
      ),
      h("span", { class: "number" }, "Waited"),
      h("span", { class: "number" }, "Ran"),
    ),
    h(
      "ol",
      { class: "plain" },
      trace.rows.map((row) => h("li", { key: row.key }, line(row, scale, app), open === row.key && details(row, app))),
    ),
  );
}

/** The time from the first to the last moment, with round numbers in between. */
function scaleOf(trace, now) {
  const begin = Date.parse(trace.started_at);
  const isOpen = trace.state === "running" || trace.state === "waiting";
  const ends = trace.rows.flatMap((row) => segments(row, begin, 0)).map(({ to }) => to);
  const last = Math.max(begin + (trace.duration_ms ?? 0), Date.parse(trace.last_at), ...ends);
  // What has been open for long must not squeeze all else; its bar says that it goes on.
  const end = Math.max(isOpen ? Math.min(now, begin + 2 * (last - begin) + 1000) : last, begin + 1);
  const step = [1, 2, 5].flatMap((n) => [...Array(10).keys()].map((power) => n * 10 ** power));
  const apart = step.sort((one, other) => one - other).find((one) => (end - begin) / one <= TICKS_MAX) ?? end - begin;
  const ticks = [];
  for (let tick = 0; tick <= end - begin; tick += apart) ticks.push(tick);
  const share = (at) => Math.min(Math.max((100 * (at - begin)) / (end - begin), 0), 100);
  return { begin, end, ticks, share, place: (at) => `${share(at).toFixed(3)}%` };
}

/** The parts of an attempt's time, each from and to in milliseconds. */
function segments({ attempt, task }, begin, now) {
  const sent = moment(attempt.sent_at);
  const bars = [];
  const add = (kind, from, to, more) => to >= from && bars.push({ kind, from, to, ...more });
  for (const [index, delivery] of attempt.deliveries.entries()) {
    const delivered = moment(delivery.delivered_at);
    const delay = delivery.delay_ms ?? 0;
    // One that was put back has waited from then on.
    const again = index > 0 ? moment(attempt.deliveries[index - 1].settled_at) : null;
    const from = again ?? sent ?? delivered - (delivery.dwell_ms ?? 0) - delay;
    const due = Math.min(from + delay, delivered);
    if (delay > 0) add("delay", from, due);
    add("dwell", due, delivered, { redelivered: delivery.redelivered });
    const ended = moment(delivery.finished_at);
    const eta = delivered + (delivery.eta_wait_ms ?? 0);
    const started = moment(delivery.started_at) ?? (delivery.prefetch_ms == null ? null : eta + delivery.prefetch_ms);
    const until = ended ?? moment(delivery.settled_at);
    const end = until ?? (delivery.expired ? delivered : now);
    if (delivery.eta_wait_ms > 0) add("eta", delivered, Math.min(eta, Math.max(end, delivered)));
    if (started == null) {
      const ran = delivery.run_ms != null && ended != null;
      if (ran) {
        add("prefetch", eta, ended - delivery.run_ms);
        add("run", ended - delivery.run_ms, ended, { state: delivery.state });
      } else {
        add("unknown", eta, Math.max(end, eta), { open: until == null && !delivery.expired });
      }
      continue;
    }
    add("prefetch", eta, started);
    const over = ended ?? (delivery.run_ms == null ? null : started + delivery.run_ms);
    add("run", started, over ?? Math.max(end, started), { state: delivery.state, open: over == null && !delivery.expired });
  }
  if (attempt.deliveries.length === 0 && sent != null) {
    const waits = task.state === "waiting";
    add("dwell", sent, waits ? Math.max(now, sent) : (moment(attempt.answered_at) ?? sent), { open: waits });
  }
  return bars;
}

const moment = (time) => (time ? Date.parse(time) : null);

/** The state that the attempt has ended with, or is in. */
function stateOf({ task, attempt, last }) {
  if (attempt.answer === "refused") return "refused";
  const told = attempt.deliveries.findLast(({ state }) => state)?.state;
  return told ?? (last ? task.state : "retried");
}

function line(row, scale, app) {
  const { task, attempt, first } = row;
  const bars = segments(row, scale.begin, app.now());
  const state = stateOf(row);
  const took = (...kinds) => {
    const parts = bars.filter(({ kind }) => kinds.includes(kind));
    if (parts.length === 0 || attempt.answer === "refused") return NONE;
    const whole = parts.reduce((sum, { from, to }) => sum + to - from, 0);
    return `${duration(whole)}${parts.some((part) => part.open) ? " …" : ""}`;
  };
  const redelivered = attempt.deliveries.filter((delivery) => delivery.redelivered).length;
  const isOpen = open === row.key;
  const brief = [
    STATES[state] ?? state,
    ...bars.map(({ kind, from, to, open }) => `${kind === "run" && !open ? BARS.ran : BARS[kind]} ${duration(to - from)}${open ? " so far" : ""}`),
  ];
  return h(
    "button",
    {
      type: "button",
      class: "wf-row",
      "data-state": state,
      "aria-expanded": String(isOpen),
      onclick: () => {
        open = isOpen ? null : row.key;
        app.draw();
      },
    },
    h(
      "span",
      { class: "wf-name", style: { "--depth": String(Math.min(task.depth ?? 0, DEPTH_MAX)) } },
      mark(state, h("span", { class: "unseen" }, `${state}: `)),
      h("span", { class: "cut", title: task.task }, task.task || "(no name)"),
      attempt.retries > 0 && h("span", { class: "flag is-retried" }, `retry ${attempt.retries}`),
      !first && attempt.retries === 0 && h("span", { class: "flag" }, "sent again"),
      redelivered > 0 && h("span", { class: "flag" }, "↻ redelivered"),
    ),
    h(
      "span",
      { class: "wf-track", "aria-hidden": "true" },
      scale.ticks.map((tick) => h("span", { key: `tick-${tick}`, class: "grid-line", style: { left: scale.place(scale.begin + tick) } })),
      bars.map(({ kind, from, to, state, open, redelivered }, index) =>
        h("span", {
          key: `bar-${index}`,
          class: `bar is-${kind}${state ? ` ended-${state}` : ""}${open ? " is-open" : ""}${redelivered ? " is-again" : ""}`,
          style: { left: scale.place(from), width: `${(scale.share(to) - scale.share(from)).toFixed(3)}%` },
        }),
      ),
      attempt.answer === "refused" && h("span", { key: "refused", class: "stop", style: { left: scale.place(moment(attempt.sent_at) ?? scale.begin) } }, "✕"),
    ),
    h("span", { class: "number wf-waited" }, took("dwell", "delay", "eta")),
    h("span", { class: "number wf-ran" }, took("run")),
    h("span", { class: "tip", role: "tooltip" }, brief.map((part) => h("span", null, part))),
  );
}

function details({ task, attempt, key }, app) {
  const now = app.now();
  const at = (time) => time && clock(time, now);
  const invalid = attempt.invalid_reason && `: ${INVALID[attempt.invalid_reason]?.[0] ?? attempt.invalid_reason}`;
  return h(
    "div",
    { class: "wf-details", key: `details-${key}` },
    facts([
      ["Task", task.task],
      ["Task id", copyable(task.task_id, "the task id")],
      ["Parent", task.parent_task_id && copyable(task.parent_task_id, "the parent's id")],
      ["Group", task.group && copyable(task.group, "the group's id")],
      ["State", `${task.state}${STATES[task.state] ? `: ${STATES[task.state]}` : ""}`],
      ["Queue", `${attempt.queue} on ${attempt.system}, by route ${attempt.route}`],
      ["Producer", attempt.producer],
      ["Sent", at(attempt.sent_at) ?? "not seen by this proxy"],
      ["Answer", attempt.answer && `${attempt.answer}${attempt.answered_at && attempt.sent_at ? ` after ${duration(Date.parse(attempt.answered_at) - Date.parse(attempt.sent_at))}` : ""}`],
      ["Error", attempt.error && h("span", { class: "mark is-failed" }, attempt.error)],
      ["ETA", at(attempt.eta)],
      ["Context", attempt.quality && [mark(attempt.quality), invalid, ` – ${attempt.verdict}; `, ORIGINS[attempt.origin] ?? attempt.origin]],
      ["Span", attempt.send_span_id && copyable(attempt.send_span_id, "the span id")],
    ]),
    attempt.deliveries.map((delivery, index) =>
      h(
        "section",
        { key: index },
        h("h2", null, attempt.deliveries.length > 1 ? `Delivery ${index + 1}` : "Delivery", delivery.redelivered && h("span", { class: "flag" }, "↻ redelivered")),
        facts([
          ["Delivered", at(delivery.delivered_at)],
          ["Worker", delivery.worker],
          ["Dwell", duration(delivery.dwell_ms)],
          ["Held back", delivery.delay_ms > 0 && duration(delivery.delay_ms)],
          ["Waited for ETA", delivery.eta_wait_ms > 0 && duration(delivery.eta_wait_ms)],
          ["Prefetched", delivery.prefetch_ms != null && duration(delivery.prefetch_ms)],
          ["Ran", delivery.run_ms != null ? duration(delivery.run_ms) : NONE],
          ["Settled", delivery.settlement ? `${delivery.settlement}${delivery.settled_at ? ` at ${at(delivery.settled_at)}` : ""}` : "not yet"],
          ["Ended", delivery.state && `${delivery.state}, told by ${EVIDENCE[delivery.evidence] ?? "nobody"}`],
          ["Expired", delivery.expired && "its end was not seen within the limits"],
          ["Span", delivery.receive_span_id && copyable(delivery.receive_span_id, "the span id")],
        ]),
      ),
    ),
    attempt.deliveries.length === 0 && h("p", { class: "quiet" }, attempt.answer === "refused" ? "The broker did not take it, so nobody got it." : "Nobody has taken it yet, as far as this proxy has seen."),
  );
}

const TICKS_MAX = 6;
const DEPTH_MAX = 8;
