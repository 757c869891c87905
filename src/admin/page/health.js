// How the proxy itself is.

import { h } from "./dom.js";
import { facts, field, figure, mark, table, when } from "./parts.js";
import { DROPS, FAILURES, blind, leftAlone } from "./words.js";
import { ago, bytes, count, duration, percent, plural } from "./units.js";

export const label = "Health";
export const title = () => "Health";

/** All of it is in the status, which is fetched for every view. */
export async function load() {
  return {};
}

/** What somebody should do something about: what it is, what to do, whether it is so now. */
export function complaints(status) {
  const { exporter, limits, sightings } = status;
  const found = [];
  if (exporter && isFailing(exporter)) {
    found.push([
      `Spans do not reach the collector: ${exporter.last_failure.message}`,
      `See that ${exporter.endpoint} can be reached from here and takes ${exporter.protocol}. Traffic is not touched by it; spans that find no room are dropped and counted.`,
      true,
    ]);
  }
  for (const { key, value, used } of limits) {
    if (isFull(key, used, value)) {
      found.push([`${key} is used to ${percent(used, value)}.`, "Raise it, or see what takes so much. Beyond it traffic goes on, unread or uncounted; too many connections are refused.", true]);
    }
  }
  if (sightings.dropped > 0) {
    found.push([
      `${count(sightings.dropped)} sightings were dropped: messages that passed faster than they could be counted and traced.`,
      "Give tracehop more CPU, or raise limits.sightings_max if it comes in bursts.",
    ]);
  }
  for (const { host, ahead_ms } of status.clock_skews.slice(0, SKEWS_SHOWN)) {
    found.push([
      `The clock of ${host} is at least ${duration(ahead_ms)} ahead of this one.`,
      "See to NTP on both hosts. Until then the time in queue of what is sent from there is too short, or not told.",
      true,
    ]);
  }
  const failed = sum(status.routes.flatMap((route) => route.connections_failed));
  if (failed > 0) {
    found.push([`${plural(failed, "connection")} failed since the start.`, "The table of routes tells why, and what to do."]);
  }
  const unread = sum(status.blind_sessions);
  if (unread > 0) {
    found.push([`${plural(unread, "connection")} could not be read since the start. Their traffic flows, and is not traced.`, "The table below tells why, and what to do."]);
  }
  return found;
}

/** Whether a limit is nearly reached, and that is a loss: memories are full as a rule. */
function isFull(key, used, value) {
  return used != null && value > 0 && used >= value * FULL && !MEMORIES.test(key);
}

function isFailing({ last_failure, last_success_at }) {
  return last_failure != null && (last_success_at == null || Date.parse(last_failure.at) > Date.parse(last_success_at));
}

const sum = (counts) => counts.reduce((total, { count }) => total + count, 0);

export function draw(_, app) {
  const { status } = app;
  const open = status.routes.reduce((total, route) => total + route.connections_open, 0);
  const wrong = complaints(status);
  return [
    h("h1", { key: "title", tabindex: "-1" }, "Health"),
    h(
      "dl",
      { class: "figures", key: "figures" },
      figure("State", mark(status.state)),
      figure("Up", duration(app.now() - Date.parse(status.started_at))),
      figure("Version", status.version),
      figure("Connections", count(open), "open"),
      figure("Exporter", exporterWord(status.exporter)),
    ),
    h(
      "section",
      { class: "card", key: "attention", "aria-labelledby": "attention" },
      h("h2", { id: "attention" }, wrong.length > 0 ? "Needs attention" : "All is well"),
      wrong.length > 0
        ? h(
            "ul",
            { class: "plain attention" },
            wrong.map(([what, remedy]) => h("li", { key: what.slice(0, 24) }, mark("warning", h("b", null, what)), h("p", { class: "quiet" }, remedy))),
          )
        : h("p", null, "Connections are taken and read, and nothing is near a limit."),
    ),
    routes(status),
    h("div", { class: "halves", key: "halves" }, exporter(status, app), limits(status)),
    reasons("Connections that are not read", status.blind_sessions, blind, "Every connection could be read.", "blind"),
    reasons("Messages left alone", status.left_alone, leftAlone, "Every message could be read.", "left"),
    config(status, app),
  ];
}

function exporterWord(exporter) {
  if (!exporter) return mark("paused", "off");
  return isFailing(exporter) ? mark("warning", "failing") : mark("ready", exporter.last_success_at ? "exporting" : "idle");
}

function routes({ routes }) {
  const number = "number";
  const failures = ({ connections_failed }) => connections_failed.filter(({ count }) => count > 0);
  return h(
    "section",
    { class: "card", key: "routes" },
    h("h2", null, "Routes"),
    table(
      "Routes",
      [
        ["Route", ({ name }) => h("b", null, name)],
        ["Listens at", ({ listen, tls_in }) => [h("code", null, listen), tls_in && h("span", { class: "tag" }, "TLS")], "wide"],
        ["Broker", ({ upstream, tls_out }) => [h("code", null, upstream), tls_out && h("span", { class: "tag" }, "TLS")], "wide"],
        ["Protocol", ({ protocol }) => protocol],
        ["Open", ({ connections_open }) => count(connections_open), number],
        ["So far", ({ connections_total }) => count(connections_total), number],
        [
          "Failed",
          (route) => {
            const failed = sum(failures(route));
            return failed > 0 ? mark("failed", count(failed)) : "0";
          },
          number,
        ],
        ["From apps", ({ bytes_from_clients }) => bytes(bytes_from_clients), number],
        ["From brokers", ({ bytes_from_brokers }) => bytes(bytes_from_brokers), number],
      ],
      routes,
      { key: ({ name }) => name },
    ),
    routes.some((route) => failures(route).length > 0) && [
      h("h3", null, "Why connections failed"),
      h(
        "ul",
        null,
        routes.flatMap((route) =>
          failures(route).map(({ reason, count: number }) =>
            h("li", { key: `${route.name}/${reason}` }, `${count(number)} on ${route.name}, `, h("code", null, reason), ` – ${FAILURES[reason] ?? "see the log"}`),
          ),
        ),
      ),
    ],
  );
}

function exporter({ exporter }, app) {
  if (!exporter) {
    return h(
      "section",
      { class: "card", key: "exporter" },
      h("h2", null, "Exporter"),
      h("p", null, "Spans are not exported: telemetry.export is off, or OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER says so. This page and the metrics work all the same."),
    );
  }
  const { last_failure } = exporter;
  return h(
    "section",
    { class: "card", key: "exporter" },
    h("h2", null, "Exporter ", exporterWord(exporter)),
    last_failure && h("p", { class: "failure" }, h("b", null, `Last failure ${ago(last_failure.at, app.now())}: `), last_failure.message),
    facts([
      ["Endpoint", h("code", null, exporter.endpoint)],
      ["Protocol", exporter.protocol],
      ["Exported", `${count(exporter.exported)} spans`],
      ["Last success", when(exporter.last_success_at, app.now())],
      ["Queue", [meter(exporter.queued, exporter.queue_max, exporter.queued >= exporter.queue_max * FULL), ` ${count(exporter.queued)} of ${count(exporter.queue_max)}`]],
      ["Dropped", count(sum(exporter.dropped))],
    ]),
    sum(exporter.dropped) > 0 &&
      h(
        "ul",
        null,
        exporter.dropped
          .filter((dropped) => dropped.count > 0)
          .map(({ reason, count: number }) => h("li", { key: reason }, `${count(number)} `, h("code", null, reason), ` – ${DROPS[reason] ?? "see the log"}`)),
      ),
  );
}

function limits({ limits, sightings }) {
  const text = (key, value) => (key.includes("bytes") ? bytes(value) : count(value));
  return h(
    "section",
    { class: "card", key: "limits" },
    h("h2", null, "Limits"),
    table(
      "Limits",
      [
        ["Limit", ({ key }) => h("code", null, key), "wide"],
        ["Used", ({ key, used }) => text(key, used), "number"],
        ["Of", ({ key, value }) => text(key, value), "number"],
        ["Share", ({ key, used, value }) => (used == null ? "" : meter(used, value, isFull(key, used, value)))],
      ],
      limits,
      { key: ({ key }) => key },
    ),
    h("p", { class: "quiet" }, `${count(sightings.queued)} sightings wait to be counted; ${count(sightings.dropped)} were dropped.`),
  );
}

function meter(used, of, full) {
  const share = of > 0 ? Math.min(used / of, 1) : 0;
  return h(
    "span",
    { class: `meter${full ? " is-full" : ""}`, role: "img", "aria-label": percent(used, of), title: percent(used, of) },
    h("span", { style: { width: `${100 * share}%` } }),
  );
}

/** What was not read, by reason; with what that means and what to do. */
function reasons(heading, counts, words, none, key) {
  return h(
    "section",
    { class: "card", key },
    h("h2", null, heading),
    counts.length === 0
      ? h("p", { class: "quiet" }, none)
      : table(
          heading,
          [
            ["Reason", ({ reason }) => h("code", null, reason)],
            ["Route", ({ route }) => route],
            ["Count", ({ count: number }) => count(number), "number"],
            ["Meaning", ({ reason }) => words(reason)[0], "wide"],
            ["What to do", ({ reason }) => words(reason)[1], "wide"],
          ],
          counts.filter(({ count }) => count > 0),
          { key: ({ route, reason }) => `${route}/${reason}`, empty: none },
        ),
  );
}

function config({ config }, app) {
  const { find = "" } = app.place.parameters;
  const wanted = find.trim().toLowerCase();
  const found = config.filter((entry) => [entry.key, entry.value, entry.origin].some((text) => text.toLowerCase().includes(wanted)));
  return h(
    "section",
    { class: "card", key: "config" },
    h("h2", null, "Configuration"),
    h("p", { class: "quiet" }, "What holds, and where it comes from; “tracehop check” prints the same."),
    h(
      "form",
      { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      field("find", "Find", find, (event) => app.narrow({ find: event.target.value }), "a key, a value, or where it comes from"),
    ),
    table(
      "Configuration",
      [
        ["Key", ({ key }) => h("code", null, key), "wide"],
        ["Value", ({ value }) => h("code", null, value), "wide"],
        ["Comes from", ({ origin }) => (origin === "default" ? h("span", { class: "quiet" }, origin) : h("b", null, origin))],
      ],
      found,
      { key: ({ key }) => key, empty: "No key, value or origin has that in it." },
    ),
  );
}

const FULL = 0.9;
/** One wrong clock, this proxy's own, makes all others look wrong. */
const SKEWS_SHOWN = 5;
/** What forgets the oldest when it is full. */
const MEMORIES = /memory|recent/;
