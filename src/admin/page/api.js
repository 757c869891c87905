// What is asked of the proxy.

const TOKEN = "tracehop.token";

/** The token is asked for, and there is none or a wrong one. */
export class Unauthorized extends Error {}

/** The proxy has answered, and not with what was asked for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** The JSON at a path below the page's own. */
export async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value != null && value !== "");
  const query = new URLSearchParams(given).toString();
  const token = sessionStorage.getItem(TOKEN);
  const answer = await fetch(`api/${path}${query && `?${query}`}`, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (answer.status === 401) throw new Unauthorized();
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, said.error ?? `The proxy answered with status ${answer.status}.`);
  }
  return answer.json();
}

const PATIENCE_MS = 10_000;
