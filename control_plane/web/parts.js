// The pieces that pages are made of. Each state that data can be in is drawn by `Shown`, the same on every page.
import { useEffect, useRef, useState } from "preact/hooks";
import { UNKNOWN, count, isKnown, percent, words } from "./format.js";
import { html } from "./html.js";

/** A value, or the word "unknown" with the reason that was given for it. */
export function Value({ of, as, why }) {
  if (of === null || of === undefined)
    return html`<span class="unknown" title=${why ? `not known: ${words(why)}` : "not known"}>${UNKNOWN}</span>`;
  return as ? as(of) : String(of);
}

/** What data of a question look like while they come, when they fail, when there are none, and when they are old. */
export function Shown({ of, empty, isEmpty = (data) => data.items?.length === 0, rows = 3, children }) {
  if (of.isLoading) return html`<${Loading} rows=${rows} />`;
  if (of.data === null) return html`<${Failed} problem=${of.problem} again=${of.again} />`;
  const old = of.isStale ? html`<${Old} problem=${of.problem} again=${of.again} />` : null;
  if (isEmpty(of.data)) return html`${old}${empty ?? html`<${Empty} title="Nothing here" />`}`;
  return html`${old}<div class=${of.isStale ? "stale" : ""}>${children(of.data)}</div>`;
}

export const Loading = ({ rows = 3 }) =>
  html`<div class="loading" role="status"><span class="visually-hidden">Loading</span>${Array.from({ length: rows }, (_, n) => html`<span class="bone" key=${n}></span>`)}</div>`;

export const Empty = ({ title, children }) =>
  html`<div class="empty"><p class="empty-title">${title}</p>${children ? html`<div class="empty-text">${children}</div>` : null}</div>`;

function Failed({ problem, again }) {
  if (problem.status === 401)
    return html`<${Empty} title="A key is needed"><p>This control plane answers only to a key. Enter one above.</p><//>`;
  if (problem.status === 403)
    return html`<${Empty} title="Your key does not open this"><p>${problem.detail}</p><//>`;
  return html`<div class="failed" role="alert">
    <p class="empty-title">${problem.message}</p><p>${problem.detail}</p>
    <button type="button" onClick=${again}>Ask again</button>
  </div>`;
}

const Old = ({ problem, again }) =>
  html`<p class="old" role="status">Not up to date: ${problem.message}. ${" "}<button type="button" class="link" onClick=${again}>Ask again</button></p>`;

export function Panel({ title, note, actions, children, id }) {
  return html`<section class="panel" aria-labelledby=${id}>
    <header class="panel-head"><h2 id=${id}>${title}</h2>${note ? html`<p class="note">${note}</p>` : null}<div class="panel-actions">${actions}</div></header>
    ${children}
  </section>`;
}

/** A share of 0..1 as a bar with its number. Unknown has a bar of its own kind, not an empty one. */
export function Meter({ label, value, tone = "honest", why, text }) {
  const isThere = isKnown(value);
  const said = isThere ? (text ?? percent(value)) : UNKNOWN;
  return html`<div class="meter">
    <span class="meter-label">${label}</span>
    <span class=${`track ${isThere ? "" : "track-unknown"}`} aria-hidden="true">
      ${isThere ? html`<span class=${`fill fill-${tone}`} style=${{ width: `${Math.min(Math.max(value, 0), 1) * 100}%` }}></span>` : null}
    </span>
    <span class=${isThere ? "meter-value" : "meter-value unknown"} title=${isThere ? "" : why ? `not known: ${words(why)}` : ""}>${said}</span>
  </div>`;
}

export const Stat = ({ label, children, note, tone }) =>
  html`<div class=${`stat ${tone ? `stat-${tone}` : ""}`}><dt>${label}</dt><dd>${children}${note ? html`<span class="note">${note}</span>` : null}</dd></div>`;

const TONES = {
  connected: "good", up: "good", ok: "good", met: "good", healthy: "good", none: "good", completed: "good", kept: "good",
  stale: "warn", unreachable: "warn", partial: "warn", degraded: "warn", at_risk: "warn", warning: "warn", pending: "warn", burning: "warn",
  gone: "quiet", absent: "quiet", never_sampled: "quiet", unknown: "quiet", not_enough_data: "quiet",
  failed: "bad", violated: "bad", violation: "bad", critical: "bad", firing: "bad", exhausted: "bad", error: "bad", goes_on: "bad",
};
/** A state in its own word; the colour only helps those who see it. */
export const State = ({ of, detail, tone }) =>
  html`<span class=${`state state-${tone ?? TONES[of] ?? "plain"}`} title=${detail ?? ""}>${words(of)}</span>`;

/** Columns: { title, cell: (row) => …, number?: true }. A table that is wider than the window scrolls inside of itself. */
export function Table({ caption, columns, rows: all, keyOf, first = 25 }) {
  const [most, setMost] = useState(first);
  const rows = all.slice(0, most);
  const more = all.length > most ? html`<button type="button" class="more" onClick=${() => setMost(most + 100)}>${count(all.length - most)} more</button>` : null;
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${caption}>
    <table><caption class="visually-hidden">${caption}</caption>
      <thead><tr>${columns.map((c) => html`<th key=${c.title} scope="col" class=${c.number ? "number" : ""}>${c.title}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map((c, n) =>
        n === 0 ? html`<th key=${c.title} scope="row">${c.cell(row)}</th>` : html`<td key=${c.title} class=${c.number ? "number" : ""}>${c.cell(row)}</td>`)}</tr>`)}</tbody>
    </table></div>${more}`;
}

/** A few choices of which one holds. */
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>${options.map(([key, text]) =>
    html`<button type="button" key=${key} aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`)}</div>`;
}

/** The page's heading. It takes the focus when the page was gone to, so that a screen reader begins there. */
export function Heading({ title, above, children }) {
  const ref = useRef(null);
  useEffect(() => {
    document.title = `${title} · OptiInfra`;
    if (document.body.dataset.moved) ref.current?.focus();
  }, [title]);
  return html`<div class="heading">${above ? html`<p class="above">${above}</p>` : null}<h1 tabindex="-1" ref=${ref}>${title}</h1>${children}</div>`;
}
