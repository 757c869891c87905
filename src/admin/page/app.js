// The page: which view there is, what it shows, and how it keeps up.

import { Refused, Unauthorized, ask, hasToken, keepToken } from "./api.js";
import { h, render } from "./dom.js";
import { notice, say, sign } from "./parts.js";
import { clock } from "./units.js";
import * as flow from "./flow.js";
import * as health from "./health.js";
import * as quality from "./quality.js";
import * as workflow from "./workflow.js";
import * as workflows from "./workflows.js";

const VIEWS = { flow, workflows, quality, health };

/** What is known, and how it is looked at. */
const page = {
  status: null,
  /** What the view has fetched. */
  data: null,
  /** Why the last question was not answered as it should have been. */
  trouble: null,
  answeredAt: null,
  /** By how much the clock of the proxy is ahead of the browser's. */
  ahead: 0,
  connection: "connecting",
  paused: false,
  asksToken: false,
  place: place(),
};

/** Which view the address names: `#/workflows/<trace id>?queue=celery`. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  const known = Object.hasOwn(VIEWS, name) ? name : "flow";
  const item = known === "workflows" ? (rest[0] ?? "") : "";
  return {
    name: known,
    view: item ? workflow : VIEWS[known],
    item,
    parameters: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** What a view may know and do. */
const app = {
  get status() {
    return page.status;
  },
  get place() {
    return page.place;
  },
  /** The time at the proxy. */
  now: () => Date.now() + page.ahead,
  draw,
  refresh,
  /** Says the same in the address, without a step to go back to. */
  narrow(parameters) {
    const given = Object.entries(parameters).filter(([, value]) => value);
    const query = new URLSearchParams(given).toString();
    const path = location.hash.split("?")[0] || "#/flow";
    history.replaceState(null, "", `${path}${query && `?${query}`}`);
    page.place = place();
    draw();
  },
};

// Each question is numbered: an answer to one that is out of date is left unread.
let asked = 0;
let timer;

async function refresh() {
  clearTimeout(timer);
  const number = (asked += 1);
  const { view } = page.place;
  const fresh = () => number === asked;
  try {
    const [status, answer] = await Promise.all([
      ask("status"),
      view.load(app, page.data).catch((error) => {
        if (!(error instanceof Refused)) throw error;
        return error;
      }),
    ]);
    if (!fresh()) return;
    if (status.state === "draining" && page.status?.state !== "draining") say("tracehop is draining.");
    page.status = status;
    page.ahead = Date.parse(status.now) - Date.now();
    page.answeredAt = status.now;
    page.trouble = answer instanceof Refused ? answer : null;
    if (!page.trouble) page.data = answer;
    page.asksToken = false;
    connected("live");
  } catch (error) {
    if (!fresh()) return;
    if (error instanceof Unauthorized) {
      page.asksToken = true;
      connected("locked");
    } else {
      page.trouble = error instanceof Refused ? error : null;
      connected("reconnecting");
    }
  }
  draw();
  if (follows()) timer = setTimeout(refresh, PAUSE_MS);
}

function follows() {
  return !page.paused && !document.hidden && !page.asksToken;
}

function connected(connection) {
  const before = page.connection;
  page.connection = connection;
  if (before === connection) return;
  if (connection === "reconnecting") say("tracehop does not answer. Trying again.");
  if (connection === "live" && before === "reconnecting") say("tracehop answers again.");
}

function pause() {
  page.paused = !page.paused;
  say(page.paused ? "Paused." : "Live.");
  if (page.paused) {
    asked += 1; // what is under way comes too late
    clearTimeout(timer);
    draw();
  } else {
    refresh();
  }
}

function draw() {
  const { place } = page;
  document.title = `${place.view.title(place)} · tracehop`;
  render(
    document.getElementById("page"),
    h("a", { class: "skip", href: "#main", onclick: skip }, "Skip to the content"),
    header(),
    h(
      "main",
      { id: "main", tabindex: "-1", key: `${place.name}/${place.item}` },
      banner(),
      page.asksToken ? tokenForm() : content(),
    ),
    footer(),
    h("div", { id: "said", class: "said", role: "status", "aria-live": "polite" }),
  );
}

function content() {
  const { place, status, data, trouble, connection } = page;
  if (trouble) return place.view.refused?.(trouble, app) ?? notice("bad", h("p", null, trouble.message));
  if (data && status) return place.view.draw(data, app);
  return connection !== "reconnecting" && h("p", { class: "quiet", key: "asking" }, "Asking tracehop …");
}

function header() {
  return h(
    "header",
    { class: "top", key: "top" },
    h(
      "a",
      { class: "brand", href: "#/flow" },
      h("img", { src: "icon.svg", alt: "", width: "24", height: "24" }),
      "tracehop",
    ),
    h(
      "nav",
      { "aria-label": "Views" },
      Object.entries(VIEWS).map(([name, view]) =>
        h(
          "a",
          { key: name, href: `#/${name}`, "aria-current": page.place.name === name && "page" },
          view.label,
          name === "health" &&
            page.status &&
            health.complaints(page.status).some(([, , now]) => now) &&
            h("span", { class: "mark is-warning" }, sign("warning"), h("span", { class: "unseen" }, "needs attention")),
        ),
      ),
    ),
    h("div", { class: "controls" }, liveness(), themeButton()),
  );
}

/** Whether what is seen is how it is. */
function liveness() {
  const [state, word] = currentness();
  return h(
    "button",
    {
      type: "button",
      class: `liveness is-${state}`,
      "data-state": state,
      "aria-pressed": String(page.paused),
      title: page.paused ? "Follow again" : "Hold still what is shown",
      onclick: pause,
    },
    sign(state),
    word,
  );
}

function currentness() {
  const { paused, connection, status } = page;
  if (connection === "locked") return ["paused", "Locked"];
  if (paused) return ["paused", "Paused"];
  if (connection === "connecting") return ["reconnecting", "Connecting"];
  if (connection === "reconnecting") return ["reconnecting", "Reconnecting"];
  return status.state === "draining" ? ["draining", "Draining"] : ["live", "Live"];
}

function banner() {
  const { status, connection, answeredAt } = page;
  if (connection === "reconnecting") {
    return notice(
      "bad",
      h("p", null, h("b", null, "tracehop does not answer. ")),
      h(
        "p",
        null,
        answeredAt
          ? `What you see is from ${clock(answeredAt, app.now())}. `
          : "It may not have been started yet, or has ended. ",
        status?.state === "draining" && "It was draining, so it has most likely ended. ",
        "This page asks again every two seconds.",
      ),
    );
  }
  if (status?.state === "draining") {
    return notice(
      "warn",
      h("p", null, h("b", null, "tracehop is draining: "), "it takes no new connections and lets those that are open finish what they have begun. Then it ends, and this page with it."),
    );
  }
  if (status?.state === "starting") return notice("warn", h("p", null, "tracehop is starting and takes no connections yet."));
  return null;
}

function tokenForm() {
  const submit = (event) => {
    event.preventDefault();
    keepToken(new FormData(event.target).get("token").trim());
    event.target.reset();
    page.asksToken = false;
    page.connection = "connecting";
    refresh();
  };
  return h(
    "form",
    { class: "card token", onsubmit: submit },
    h("h1", { tabindex: "-1" }, "This page is locked"),
    h("p", null, hasToken() ? "That token was not taken. " : "", "Enter the token from the file that admin.token_file names; it is kept until you close this tab."),
    h("label", { for: "token" }, "Token"),
    h("div", { class: "row" }, h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true }), h("button", { type: "submit", class: "primary" }, "Open")),
  );
}

function footer() {
  const links = ["metrics", "api/status", "api/flow", "api/traces", "api/quality"];
  return h(
    "footer",
    { key: "foot" },
    h("span", null, page.status ? `tracehop ${page.status.version}` : "tracehop"),
    // Links carry no token.
    !hasToken() && h("span", null, "Raw: ", links.map((path) => [h("a", { href: path }, `/${path}`), " "])),
  );
}

/** The theme is the system's, unless one was chosen. */
const THEMES = ["auto", "light", "dark"];

function theme() {
  const chosen = localStorage.getItem("tracehop.theme");
  return THEMES.includes(chosen) ? chosen : "auto";
}

function themeButton() {
  const current = theme();
  const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
  const choose = () => {
    localStorage.setItem("tracehop.theme", next);
    document.documentElement.dataset.theme = next;
    draw();
  };
  const label = `Theme: ${current}. Change to ${next}`;
  return h("button", { type: "button", class: "icon-button theme", "aria-label": label, title: label, onclick: choose }, sign(current));
}

/** The address is the router's, so the link must not change it. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

window.addEventListener("hashchange", () => {
  const before = page.place;
  page.place = place();
  if (before.view !== page.place.view || before.item !== page.place.item) {
    page.data = null;
    page.trouble = null;
    draw();
    document.getElementById("main").focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (follows()) refresh();
  else clearTimeout(timer);
});
window.addEventListener("resize", draw);

const PAUSE_MS = 2000;

document.documentElement.dataset.theme = theme();
document.getElementById("page").replaceChildren();
draw();
refresh();
