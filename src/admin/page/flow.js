// Producers → queues → workers, as a picture and as tables.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { breakable, facts, field, figure, mark, notice, share, sign, table, together, verdict, wayIn } from "./parts.js";
import { layout } from "./picture.js";
import { QUALITIES } from "./words.js";
import { NONE, brief, count, duration, percent, rate } from "./units.js";

export const label = "Flow";
export const title = () => "Flow";

export async function load() {
  return arrange(await ask("flow"));
}

/** The answer as a graph: nodes by id, each with its edges. */
function arrange(answer) {
  const nodes = new Map();
  const add = (kind) => (one) => nodes.set(one.id, { ...one, kind, sends: [], receives: [] });
  answer.producers.forEach(add("producer"));
  answer.queues.forEach(add("queue"));
  answer.workers.forEach(add("worker"));
  const known = (...ids) => ids.every((id) => nodes.has(id));
  const sends = answer.sends.filter((edge) => known(edge.producer, edge.queue));
  const receives = answer.receives.filter((edge) => known(edge.queue, edge.worker));
  for (const edge of sends) for (const id of [edge.producer, edge.queue]) nodes.get(id).sends.push(edge);
  for (const edge of receives) for (const id of [edge.queue, edge.worker]) nodes.get(id).receives.push(edge);
  const of = (kind) => [...nodes.values()].filter((node) => node.kind === kind);
  return {
    ...answer,
    nodes,
    sends,
    receives,
    producers: of("producer"),
    queues: of("queue"),
    workers: of("worker"),
  };
}

export function draw(all, app) {
  if (all.nodes.size === 0) return empty(app);
  const { q, node } = app.place.parameters;
  const flow = q ? around(all, q.trim().toLowerCase()) : all;
  const chosen = flow.nodes.get(node);
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Flow"),
    summary(flow),
    (q || all.nodes.size > NODES_MAX) && search(app),
    h(
      "div",
      { class: "flow", key: "flow" },
      picture(flow, chosen, app),
      h("aside", { class: chosen ? "aside chosen" : "aside", "aria-label": "Details" }, chosen ? details(flow, chosen, app) : legend(flow)),
    ),
    flow.truncated &&
      notice("warn", h("p", null, "There are more producers, queues or workers than are kept apart; the rest is counted as “other”.")),
    tables(flow, app),
  ];
}

/** What is called so, with what it sends to or takes from. */
function around(flow, text) {
  const called = (id) => nameOf(flow.nodes.get(id)).toLowerCase().includes(text);
  const sends = flow.sends.filter(({ producer, queue }) => called(producer) || called(queue));
  const receives = flow.receives.filter(({ queue, worker }) => called(queue) || called(worker));
  const ends = [...sends, ...receives].flatMap(({ producer, queue, worker }) => [producer, queue, worker]);
  const kept = new Set([...ends, ...flow.queues.map(({ id }) => id).filter(called)]);
  const of = (nodes) => nodes.filter(({ id }) => kept.has(id));
  return { ...flow, sends, receives, producers: of(flow.producers), queues: of(flow.queues), workers: of(flow.workers) };
}

function search(app) {
  const find = (event) => app.narrow({ ...app.place.parameters, q: event.target.value });
  return h(
    "form",
    { class: "filters", key: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    field("q", "Find", app.place.parameters.q, find, "a producer, queue or worker"),
  );
}

function empty(app) {
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Flow"),
    h(
      "section",
      { class: "card empty", key: "empty" },
      h("h2", null, "No Celery message has passed yet"),
      wayIn(app.status.routes),
      h(
        "p",
        null,
        "Then send a task. Producers, queues and workers appear here with the first message. If none does, ",
        h("a", { href: "#/health" }, "Health"),
        " tells whether anybody connects, and whether the connection could be read.",
      ),
    ),
  ];
}

function summary(flow) {
  const sum = (all, name) => all.reduce((total, one) => total + (one[name] ?? 0), 0);
  const qualities = together(flow.sends.map((edge) => edge.quality));
  const messages = sum(Object.values(qualities).map((messages) => ({ messages })), "messages");
  const errors = sum(flow.sends, "errors_total");
  const failed = sum(flow.receives, "failed_total");
  const oldest = Math.max(...flow.queues.map((queue) => queue.oldest_waiting_ms ?? 0), 0);
  return h(
    "dl",
    { class: "figures", key: "summary" },
    figure("Sent", rate(sum(flow.queues, "sent_rate")), `over ${flow.window_s} s`),
    figure("Delivered", rate(sum(flow.queues, "delivered_rate")), `over ${flow.window_s} s`),
    figure("Waiting", count(sum(flow.queues, "backlog")), oldest > 0 && `oldest ${duration(oldest)}`),
    figure("Valid contexts", percent(qualities.valid, messages), `of ${count(messages)}`),
    figure("Send errors", count(errors), "so far", errors > 0 && "is-bad"),
    figure("Failed runs", count(failed), "so far", failed > 0 && "is-bad"),
  );
}

/** As many of each kind as one can look at: those that most has passed. */
function shown(flow) {
  const most = (nodes, total) =>
    [...nodes]
      .sort((one, other) => total(other) - total(one))
      .slice(0, NODES_MAX)
      .map(({ id }) => id);
  const passed = (edges) => edges.reduce((sum, edge) => sum + edge.total, 0);
  const kept = new Set([
    ...most(flow.producers, ({ sends }) => passed(sends)),
    ...most(flow.queues, (queue) => queue.sent_total + queue.delivered_total),
    ...most(flow.workers, ({ receives }) => passed(receives)),
  ]);
  const queues = flow.queues.filter(({ id }) => kept.has(id));
  // Near the queues that they have to do with, so that few edges cross.
  const rank = new Map(queues.map(({ id }, index) => [id, index]));
  const near = (edges) => {
    const ranks = edges.map(({ queue }) => rank.get(queue)).filter((known) => known !== undefined);
    return ranks.reduce((sum, one) => sum + one, 0) / (ranks.length || 1);
  };
  const beside = (nodes, edges) =>
    nodes
      .filter(({ id }) => kept.has(id))
      .sort((one, other) => near(one[edges]) - near(other[edges]));
  return { kept, columns: [beside(flow.producers, "sends"), queues, beside(flow.workers, "receives")] };
}

function picture(flow, chosen, app) {
  const { kept, columns } = shown(flow);
  const edges = [
    ...flow.sends.map((edge) => ({ ...edge, sent: true, from: edge.producer, to: edge.queue })),
    ...flow.receives.map((edge) => ({ ...edge, sent: false, from: edge.queue, to: edge.worker })),
  ].filter(({ from, to }) => kept.has(from) && kept.has(to));
  const unmatched = columns.every((column) => column.length === 0);
  if (unmatched) return h("p", { key: "unmatched", class: "quiet" }, "Nothing that has passed is called so.");
  const place = layout(room(app), columns, edges);
  const all = [flow.producers, flow.queues, flow.workers];
  const belongs = ({ from, to }) => !chosen || from === chosen.id || to === chosen.id;
  return h(
    "section",
    { class: "picture", "aria-label": "Picture of the flow; the same is in the tables below", style: { height: `${place.height}px` } },
    h(
      "svg",
      { class: "edges", "aria-hidden": "true" },
      place.edges.map(({ edge, width, path }) => {
        const kind = edge.sent ? `is-${verdict(edge.quality)}` : "is-delivery";
        const quiet = edge.rate === 0 ? " is-idle" : "";
        const aside = belongs(edge) ? "" : " is-aside";
        return h(
          "g",
          { key: `${edge.from}-${edge.to}`, class: `edge ${kind}${quiet}${aside}` },
          h("path", { d: path, "stroke-width": width.toFixed(1) }),
          edge.rate > 0 && h("path", { d: path, class: "moving" }),
        );
      }),
    ),
    ["Producers", "Queues", "Workers"].map((name, index) =>
      h(
        "h2",
        { key: name, class: "column-title", style: at(place.titles[index]) },
        name,
        h("span", { class: "quiet" }, ` ${columns[index].length < all[index].length ? `${columns[index].length} of ` : ""}${all[index].length}`),
      ),
    ),
    columns.flat().map((node) => {
      const { x, y, width, height } = place.nodes.get(node.id);
      const isChosen = chosen?.id === node.id;
      return h(
        "button",
        {
          key: node.id,
          type: "button",
          class: `node is-${node.kind}`,
          "aria-pressed": String(isChosen),
          style: { ...at({ x, y }), width: `${width}px`, height: `${height}px` },
          onclick: () => app.narrow({ ...app.place.parameters, node: isChosen ? "" : node.id }),
        },
        NODES[node.kind](node),
      );
    }),
  );
}

/** The width that the picture has. It is known once there is one, so the first is a guess. */
function room(app) {
  const place = document.querySelector(".picture");
  if (!place) requestAnimationFrame(app.draw);
  return place?.clientWidth ?? window.innerWidth;
}

const at = ({ x, y }) => ({ left: `${x}px`, top: `${y}px` });

const NODES = {
  producer(node) {
    const qualities = together(node.sends.map((edge) => edge.quality));
    const worst = verdict(qualities);
    const errors = total(node.sends, "errors_total");
    return [
      heading(nameOf(node), alias(node)),
      line(h("b", null, rate(total(node.sends, "rate"))), errors > 0 && mark("failed", `${count(errors)} send errors`)),
      h("span", { class: "line" }, share(qualities, { text: false }), mark(worst, `${percent(qualities[worst], sumOf(qualities))} ${worst}`)),
    ];
  },
  queue(node) {
    return [
      heading(nameOf(node), h("span", { class: "tag" }, node.system)),
      line(
        h("span", null, h("b", null, rate(node.sent_rate)), " in"),
        h("span", null, h("b", null, rate(node.delivered_rate)), " out"),
      ),
      line(
        h("span", null, "dwell ", h("b", null, brief(node.dwell_p50_ms)), " p50"),
        h("span", null, h("b", null, brief(node.dwell_p95_ms)), " p95"),
      ),
      line(
        h("span", null, h("b", null, count(node.backlog)), " waiting"),
        node.oldest_waiting_ms != null && h("span", null, "oldest ", h("b", null, brief(node.oldest_waiting_ms))),
      ),
      (node.errors_total > 0 || node.redelivered_total > 0) &&
        line(
          node.errors_total > 0 && mark("failed", `${count(node.errors_total)} errors`),
          node.redelivered_total > 0 && mark("retried", `${count(node.redelivered_total)} redelivered`),
        ),
    ];
  },
  worker(node) {
    const failed = total(node.receives, "failed_total");
    const redelivered = total(node.receives, "redelivered_total");
    const runs = busiest(node.receives);
    return [
      heading(nameOf(node)),
      line(
        h("b", null, rate(total(node.receives, "rate"))),
        runs?.run_p50_ms != null && h("span", null, "runs ", h("b", null, brief(runs.run_p50_ms)), " p50"),
      ),
      line(
        failed > 0 ? mark("failed", `${count(failed)} failed`) : mark("succeeded", "none failed"),
        redelivered > 0 && mark("retried", `${count(redelivered)} redelivered`),
      ),
    ];
  },
};

const heading = (name, more) => h("span", { class: "node-name" }, h("span", { class: "cut", title: name }, name), more);
const line = (...content) => h("span", { class: "line" }, content);
/** What else a producer is called: several can run on one host. */
const alias = ({ name, client_name }) => client_name && client_name !== name && h("span", { class: "quiet cut", title: client_name }, client_name);
const nameOf = (node) => node.name || "(no name)";
const total = (edges, name) => edges.reduce((sum, edge) => sum + (edge[name] ?? 0), 0);
const sumOf = (qualities) => QUALITIES.reduce((sum, quality) => sum + qualities[quality], 0);
const busiest = (edges) => [...edges].sort((one, other) => other.total - one.total)[0];

function legend(flow) {
  const present = together(flow.sends.map((edge) => edge.quality));
  return [
    h("h2", null, "How to read this"),
    h("p", null, "The wider a line, the more messages pass. Lines from producers have the colour of the trace context that messages come with:"),
    h(
      "ul",
      { class: "plain legend" },
      QUALITIES.filter((quality) => quality === "valid" || present[quality] > 0).map((quality) =>
        h("li", { key: quality }, h("svg", { class: "swatch", viewBox: "0 0 36 8", "aria-hidden": "true" }, h("g", { class: `edge is-${quality}` }, h("path", { d: "M0 4H36", "stroke-width": "5" }))), mark(quality)),
      ),
    ),
    h("p", { class: "quiet" }, "A line has the fault that most of its messages have, from one in a hundred on. “Waiting” is what this proxy saw sent and not delivered. Select a box to see more of it."),
    h("p", null, h("a", { href: "#/quality" }, "What to do about faulty contexts")),
  ];
}

function details(flow, node, app) {
  const name = (id) => nameOf(flow.nodes.get(id));
  const close = h(
    "button",
    { type: "button", class: "icon-button", "aria-label": "Close the details", onclick: () => app.narrow({ ...app.place.parameters, node: "" }) },
    sign("close"),
  );
  const edges = (heading, all, other) =>
    all.length > 0 && [
      h("h3", null, heading),
      h(
        "ul",
        { class: "plain edges-list" },
        [...all]
          .sort((one, two) => two.total - one.total)
          .slice(0, LISTED_MAX)
          .map((edge) =>
            h(
              "li",
              { key: edge[other] },
              h("button", { type: "button", class: "link cut", onclick: () => app.narrow({ ...app.place.parameters, node: edge[other] }) }, name(edge[other])),
              h("span", { class: "number" }, rate(edge.rate)),
              edge.quality && share(edge.quality),
            ),
          ),
        all.length > LISTED_MAX && h("li", { class: "quiet" }, `and ${all.length - LISTED_MAX} more, in the table below`),
      ),
    ];
  const runs = (edge) => `${duration(edge.run_p50_ms)} p50, ${duration(edge.run_p95_ms)} p95`;
  return [
    h("header", { class: "row between" }, h("h2", { class: "cut" }, nameOf(node)), close),
    node.kind === "producer" && [
      facts([
        ["Host", node.host],
        ["Client", node.client_name],
        ["Address", node.address],
        ["Sends", rate(total(node.sends, "rate"))],
        ["Sent so far", count(total(node.sends, "total"))],
        ["Send errors", count(total(node.sends, "errors_total"))],
      ]),
      edges("Sends to", node.sends, "queue"),
      h("p", null, h("a", { href: `#/quality?q=${encodeURIComponent(node.name)}` }, "Its contexts in full")),
    ],
    node.kind === "queue" && [
      facts([
        ["Broker", node.system],
        ["In", `${rate(node.sent_rate)}, ${count(node.sent_total)} so far`],
        ["Out", `${rate(node.delivered_rate)}, ${count(node.delivered_total)} so far`],
        ["Dwell", `${duration(node.dwell_p50_ms)} p50, ${duration(node.dwell_p95_ms)} p95`],
        ["Waiting", node.backlog == null ? "not known: only one side passes here" : count(node.backlog)],
        ["Oldest waiting", node.oldest_waiting_ms != null && duration(node.oldest_waiting_ms)],
        ["Send errors", count(node.errors_total)],
        ["Redelivered", count(node.redelivered_total)],
      ]),
      edges("From", node.sends, "producer"),
      edges("To", node.receives, "worker"),
      h("p", null, h("a", { href: `#/workflows?queue=${encodeURIComponent(node.name)}` }, "Workflows through this queue")),
    ],
    node.kind === "worker" && [
      facts([
        ["Address", node.address],
        ["Takes", rate(total(node.receives, "rate"))],
        ["Taken so far", count(total(node.receives, "total"))],
        ["Failed", count(total(node.receives, "failed_total"))],
        ["Redelivered", count(total(node.receives, "redelivered_total"))],
        ...node.receives.slice(0, LISTED_MAX).map((edge) => [`Runs from ${name(edge.queue)}`, edge.run_p50_ms != null && runs(edge)]),
      ]),
      edges("Takes from", node.receives, "queue"),
    ],
  ];
}

function tables(flow, app) {
  const follows = app.status.config.some(({ key, value }) => key === "spans.process" && value === "true");
  const name = (id) => breakable(nameOf(flow.nodes.get(id)));
  const number = "number";
  return h(
    "section",
    { class: "stack", key: "tables" },
    h("h2", null, "Queues"),
    table(
      "Queues",
      [
        ["Queue", (queue) => h("b", null, breakable(nameOf(queue)))],
        ["Broker", ({ system }) => system],
        ["In", ({ sent_rate }) => rate(sent_rate), number],
        ["Out", ({ delivered_rate }) => rate(delivered_rate), number],
        ["Dwell p50", ({ dwell_p50_ms }) => duration(dwell_p50_ms), number],
        ["Dwell p95", ({ dwell_p95_ms }) => duration(dwell_p95_ms), number],
        ["Waiting", ({ backlog }) => count(backlog), number],
        ["Oldest", ({ oldest_waiting_ms }) => duration(oldest_waiting_ms), number],
        ["Send errors", ({ errors_total }) => count(errors_total), number],
        ["Redelivered", ({ redelivered_total }) => count(redelivered_total), number],
      ],
      flow.queues,
      { key: ({ id }) => id },
    ),
    h("h2", null, "Who sends"),
    table(
      "Who sends to which queue",
      [
        ["Producer", (edge) => [h("b", null, name(edge.producer)), " ", alias(flow.nodes.get(edge.producer))]],
        ["Queue", (edge) => name(edge.queue)],
        ["Rate", (edge) => rate(edge.rate), number],
        ["Sent", (edge) => count(edge.total), number],
        ["Send errors", (edge) => count(edge.errors_total), number],
        ["Contexts", (edge) => share(edge.quality), "wide"],
      ],
      flow.sends,
      { key: (edge) => `${edge.producer}-${edge.queue}`, empty: "Nobody has sent through this proxy." },
    ),
    h("h2", null, "Who takes"),
    table(
      "Which worker takes from which queue",
      [
        ["Worker", (edge) => h("b", null, name(edge.worker))],
        ["Queue", (edge) => name(edge.queue)],
        ["Rate", (edge) => rate(edge.rate), number],
        ["Taken", (edge) => count(edge.total), number],
        ["Run p50", (edge) => duration(edge.run_p50_ms), number],
        ["Run p95", (edge) => duration(edge.run_p95_ms), number],
        ["Failed", (edge) => count(edge.failed_total), number],
        ["Redelivered", (edge) => count(edge.redelivered_total), number],
      ],
      flow.receives,
      { key: (edge) => `${edge.queue}-${edge.worker}`, empty: "No worker takes its messages through this proxy." },
    ),
    flow.receives.length > 0 &&
      !follows &&
      h("p", { class: "quiet" }, `Run times (${NONE}) are known where workers tell of them; spans.process = true has tracehop listen to that.`),
  );
}

const NODES_MAX = 12;
const LISTED_MAX = 12;
