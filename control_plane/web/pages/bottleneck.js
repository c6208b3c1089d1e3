// What binds a server, in words: the verdict, the numbers that it was made from, what else it might be, what to do.
import { decimal, isKnown, moment, percent, words } from "../format.js";
import { html } from "../html.js";
import { Panel, State } from "../parts.js";

export const BOTTLENECKS = "/analysis/bottlenecks";
const TONE = { healthy: "good", idle: "quiet", missing_data: "quiet", hung_engine: "bad", stuck_collective: "bad", throttled_or_faulty_gpu: "bad" };
const tone = (name) => TONE[name] ?? "warn";

/** One word in a table; what is not judged says so. */
export const Bottleneck = ({ of }) => (of ? html`<${State} of=${of.bottleneck} tone=${tone(of.bottleneck)} detail=${(of.remedies ?? [])[0] ?? ""} />` : html`<span class="unknown">not judged</span>`);

export function Verdict({ of }) {
  const numbers = Object.entries(of.evidence?.numbers ?? {});
  const unsure = Object.entries(of.cannot_tell ?? {});
  return html`<${Panel} id="verdict" title="What binds it" note=${`judged ${moment(of.judged_at)}`}>
    <p class="verdict"><${Bottleneck} of=${of} /> since <time datetime=${of.since}>${moment(of.since)}</time>${isKnown(of.score) ? html` <span class="note">score ${percent(of.score)}</span>` : null}${of.runner_up ? html` <span class="note">· runner-up ${words(of.runner_up)}${isKnown(of.runner_up_score) ? `, ${percent(of.runner_up_score)}` : ""}</span>` : null}</p>
    ${(of.remedies ?? []).length ? html`<h3>What to do, in this order</h3><ol class="remedies">${of.remedies.map((one) => html`<li key=${one}>${one}</li>`)}</ol>` : null}
    ${numbers.length ? html`<h3>Why</h3><dl class="stats">${numbers.map(([name, one]) => html`<div key=${name} class="stat"><dt>${one.means ?? words(name)}</dt><dd>${number(one)}</dd></div>`)}</dl>` : null}
    ${(of.over_window ?? []).length ? html`<${Window} of=${of.over_window} />` : null}
    ${unsure.length ? html`<details><summary>What cannot be told here</summary><ul class="unsure">${unsure.map(([name, why]) => html`<li key=${name}>${words(name)}: ${why}</li>`)}</ul></details>` : null}<//>`;
}

function number({ value, unit }) {
  if (!isKnown(value)) return html`<span class="unknown">unknown</span>`;
  if (unit === "ratio") return percent(value);
  return `${decimal(value)}${unit && unit !== "count" ? ` ${unit}` : ""}`;
}

function Window({ of }) {
  // What nobody judged is a share of its own, or a minute of trouble would look like an hour.
  const rest = Math.max(0, 1 - of.reduce((sum, one) => sum + one.ratio, 0));
  const shares = [...of.map((one) => [words(one.bottleneck), one.ratio, tone(one.bottleneck)]), ...(rest > 0.001 ? [["not judged", rest, "unknown"]] : [])];
  return html`<h3>In the last hour</h3><div class="shares shares-thin" role="img" aria-label=${shares.map(([name, ratio]) => `${name} ${percent(ratio)}`).join(", ")}>${shares.map(([name, ratio, colour]) => html`<span key=${name} class=${`share share-${colour}`} style=${{ flexGrow: ratio }}></span>`)}</div>
  <ul class="share-keys">${shares.map(([name, ratio, colour]) => html`<li key=${name}><span class=${`key share-${colour}`}></span>${name} <b>${percent(ratio)}</b></li>`)}</ul>`;
}
