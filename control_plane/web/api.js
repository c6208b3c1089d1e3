// One way to ask the REST API: with the key, with the problem as it was said, again and again while a page shows it.
import { useEffect, useRef, useState } from "preact/hooks";

const KEY = "optiinfra-key";
const PATHS = new Set((document.querySelector("meta[name=optiinfra-paths]")?.content ?? "").split(" "));
// A question that fails is asked again later and later, at most this long after.
const MOST_SECONDS = 60;
const TIMEOUT_SECONDS = 45; // the control plane gives up after 40

/** Whether this release of the control plane answers `path` at all, written as the API's description has it. */
export const answers = (path) => PATHS.has(path);

/** What the API refused, as it said it (RFC 9457), or that it could not be reached (`status` 0). */
export class Problem extends Error {
  constructor(status, { title, detail, type } = {}) {
    super(title ?? "the control plane cannot be reached");
    this.status = status;
    this.detail = detail ?? "";
    this.type = type ?? "";
  }
}

/** What all questions together say of the connection. Who wants to know listens to `change`. */
export const connection = new (class extends EventTarget {
  state = "asking"; // asking, live, lost, locked
  at = null; // performance.now() of the last answer
  heard(state) {
    if (state === "live") this.at = performance.now();
    if (state !== this.state || state === "live") {
      this.state = state;
      this.dispatchEvent(new Event("change"));
    }
  }
})();

// For this tab only: gone when it is closed, and never sent anywhere but to where this page came from.
export const keys = {
  get: () => sessionStorage.getItem(KEY),
  set: (key) => sessionStorage.setItem(KEY, key),
  forget: () => sessionStorage.removeItem(KEY),
};

export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (keys.get()) headers.Authorization = `Bearer ${keys.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["Idempotency-Key"] = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const timeout = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.heard("lost");
    throw new Problem(0, { detail: "It does not answer. What is shown is what it said last." });
  }
  connection.heard(answer.status === 401 ? "locked" : answer.status >= 500 ? "lost" : "live");
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Problem(answer.status, said), { after: Number(answer.headers.get("Retry-After")) });
  return said;
}

/** Every item of a list, page by page, and what stands beside the items of the first page. */
export async function askAll(path, options) {
  const first = await ask(path, options);
  const items = [...first.items];
  for (let next = first.next_cursor; next; ) {
    const page = await ask(`${path}${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(next)}`, options);
    items.push(...page.items);
    next = page.next_cursor;
  }
  return { ...first, items };
}

/** `path?name=value…`; lists repeat the name, nothing is written for null. */
export function url(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : [value]) if (one != null) query.append(name, one);
  return query.size ? `${path}?${query}` : path;
}

/**
 * Asks `path` now and every `seconds` while the page is visible. `path` null asks nothing.
 * Gives { data, problem, isLoading, isStale, again }: old data stay beside a new problem, and are then stale.
 */
export function useAnswer(path, { seconds = 5, all = false } = {}) {
  const [state, setState] = useState({ path, data: null, problem: null });
  const again = useRef(() => {});
  useEffect(() => {
    if (path === null) return undefined;
    const gone = new AbortController();
    let timer = null;
    let failures = 0;
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return; // it asks when somebody looks again
      let wait = seconds;
      try {
        const data = await (all ? askAll : ask)(path, { signal: gone.signal });
        failures = 0;
        setState({ path, data, problem: null });
      } catch (problem) {
        if (gone.signal.aborted) return;
        if (!(problem instanceof Problem)) throw problem;
        failures += 1;
        wait = Math.max(problem.after || 0, Math.min(MOST_SECONDS, seconds * 2 ** Math.min(failures, 5)));
        setState((before) => ({ path, data: before.path === path ? before.data : null, problem }));
      }
      timer = setTimeout(look, wait * 1000);
    };
    again.current = look;
    const seen = () => !document.hidden && look();
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("optiinfra-key", look);
    look();
    return () => {
      gone.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("optiinfra-key", look);
    };
  }, [path, seconds, all]);
  const mine = state.path === path ? state : { data: null, problem: null };
  return {
    data: mine.data,
    problem: mine.problem,
    isLoading: path !== null && mine.data === null && mine.problem === null,
    isStale: mine.data !== null && mine.problem !== null,
    again: () => again.current(),
  };
}
