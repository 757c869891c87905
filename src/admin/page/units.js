// Numbers and times as people say them. What is not known is a dash.

export const NONE = "–";

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(number) {
  if (number == null) return NONE;
  if (number < 100_000) return grouped.format(number);
  return scaled(number, 1000, ["", " k", " M", " G", " T"]);
}

export function bytes(number) {
  return number == null ? NONE : scaled(number, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
}

export function rate(perSecond) {
  if (perSecond == null) return NONE;
  if (perSecond === 0) return "0/s";
  if (perSecond < 1) return `${Number((perSecond * 60).toFixed(1))}/min`;
  return `${scaled(perSecond, 1000, ["", " k", " M"])}/s`;
}

export function duration(ms) {
  if (ms == null) return NONE;
  if (ms < 999.5) return `${exact(ms)} ms`;
  if (ms < 59_950) return `${exact(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return both(seconds, 60, "min", "s");
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return both(minutes, 60, "h", "min");
  return both(Math.round(minutes / 60), 24, "d", "h");
}

/** The same in one unit, for where there is little room. */
export function brief(ms) {
  if (ms == null || ms < 59_950) return duration(ms);
  if (ms < 3_570_000) return `${digits(ms / 60_000)} min`;
  if (ms < 171_000_000) return `${digits(ms / 3_600_000)} h`;
  return `${digits(ms / 86_400_000)} d`;
}

/** Reads "250", "250ms", "1.5 s", "2 min"; null where it is none. */
export function milliseconds(text) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)?\s*$/.exec(text ?? "");
  const unit = { ms: 1, s: 1000, min: 60_000, m: 60_000, h: 3_600_000 };
  return found && Math.round(Number(found[1]) * unit[found[2] ?? "ms"]);
}

export function percent(part, whole) {
  if (!whole) return NONE;
  const share = (100 * part) / whole;
  if (share > 0 && share < 1) return "< 1 %";
  if (share > 99 && share < 100) return "> 99 %";
  return `${Math.round(share)} %`;
}

/** The time of day, with the date where that is another day's. */
export function clock(time, now) {
  const at = new Date(time);
  const day = at.toDateString() === new Date(now).toDateString() ? "" : `${at.toLocaleDateString("sv")} `;
  return `${day}${at.toLocaleTimeString("sv")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export function ago(time, now) {
  const ms = now - Date.parse(time);
  if (ms < 1000) return "just now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  if (ms < 172_800_000) return `${Math.floor(ms / 3_600_000)} h ago`;
  return `${Math.floor(ms / 86_400_000)} d ago`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** In two units while the larger one is a single digit. */
function both(number, of, large, small) {
  if (number >= 10 * of) return `${Math.round(number / of)} ${large}`;
  const rest = number % of;
  const whole = `${Math.floor(number / of)} ${large}`;
  return rest ? `${whole} ${rest} ${small}` : whole;
}

function scaled(number, step, units) {
  let unit = 0;
  while (number >= step * 0.9995 && unit < units.length - 1) {
    number /= step;
    unit += 1;
  }
  return `${digits(number)}${units[unit]}`;
}

/** Three digits, down to a hundredth. */
function exact(number) {
  return String(Number(Number(number.toPrecision(3)).toFixed(2)));
}

/** As many digits as tell something of what changes all the time. */
function digits(number) {
  const places = number < 10 ? (number < 1 ? 2 : 1) : 0;
  return String(Number(number.toFixed(places)));
}
