// What would help: what to do, what it is predicted to bring and at what risk, why, and a person's decision.
import { useState } from "preact/hooks";
import { ask, url, useAnswer } from "../api.js";
import { bytes, decimal, isKnown, moment, percent, usd, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Shown, State, Value } from "../parts.js";

const STATES = [["open", "Open"], ["approved", "Approved"], ["rejected", "Rejected"]];
const RISKS = { low: "good", medium: "warn", high: "bad" };
// A ratio's better side: fewer seconds are better, more requests are.
const EFFECTS = {
  requests_ratio: ["Requests that it can serve", times, 1], ttft_ratio: ["Time to first token", times, -1], token_time_ratio: ["Time per token", times, -1],
  memory_bytes: ["Memory", bytes, 0], running: ["Requests at once", decimal, 0], usd_per_month: ["Cost for the same work", usd, -1], gpus: ["GPUs", decimal, -1],
};
function times(value) { return `${decimal(value)}×`; }

export function Recommendations() {
  const [state, setState] = useState("open");
  const found = useAnswer(url("/optimize/recommendations", { state, limit: 100 }), { seconds: 10 });
  return html`<${Heading} title="Recommendations"><p class="sub">Nothing is changed by looking, or by approving what nobody can carry out.</p><${Choice} label="Which" options=${STATES} value=${state} onChange=${setState} /><//>
    <${Shown} of=${found} empty=${html`<${Empty} title=${state === "open" ? "Nothing would help that is worth doing" : `None was ${state}`}>${state === "open" ? html`<p>They are made of what was observed, a few times an hour, and named only where they bring something.</p>` : null}<//>`}>${({ items }) => html`
      ${items.map((one) => html`<${Recommendation} key=${one.recommendation_id} of=${one} again=${found.again} />`)}`}<//>`;
}

function Recommendation({ of, again }) {
  const it = of.recommendation;
  const effects = Object.entries(it.effect ?? {}).filter(([, effect]) => effect && isKnown(effect.expected));
  return html`<section class="panel recommendation" aria-label=${`${words(it.kind)} for ${of.subject}`}>
    <header class="panel-head"><h2>${words(it.kind)}</h2><${State} of=${of.state} /><p class="note">${words(of.subject_kind)} ${of.server_id == null ? of.subject : html`<a href=${`#/servers/${of.server_id}`}>${of.subject}</a>`} · because of ${words(it.because)}</p>
      <p class="opportunity-money panel-actions">${isKnown(of.saved_usd_per_month) ? html`${usd(of.saved_usd_per_month)}<span class="note"> a month</span>` : null}</p></header>
    ${(it.flags ?? []).length ? html`<div class="flags" role="list" aria-label="What to set">${it.flags.map((flag) => html`<p key=${flag.name} role="listitem"><code>${flag.name} ${flag.value}</code> <span class="note">was ${flag.was ?? words(flag.unknown?.was ?? "unknown")}</span></p>`)}</div>` : null}
    ${effects.length ? html`<h3>What it is predicted to bring</h3><dl class="stats">${effects.map(([name, effect]) => html`<${Effect} key=${name} name=${name} of=${effect} />`)}</dl>` : null}
    <dl class="stats terms">
      <div class="stat"><dt>Risk</dt><dd><${State} of=${it.risk_level ?? "unknown"} tone=${RISKS[it.risk_level]} /><span class="note">${it.risk}</span></dd></div>
      <div class="stat"><dt>What it costs</dt><dd class="plain">${it.cost}${isKnown(it.payback_hours) ? html`<span class="note">paid back after ${decimal(it.payback_hours)} h</span>` : null}</dd></div>
      <div class="stat"><dt>The way back</dt><dd class="plain">${it.rollback ?? html`<${Value} of=${null} />`}</dd></div>
      ${(it.needs ?? []).length ? html`<div class="stat"><dt>Needs</dt><dd class="plain">${it.needs.map((need) => html`<span key=${need} class="need">${need}</span>`)}</dd></div>` : null}
    </dl>
    <details><summary>Evidence</summary><p>${of.explanation}</p><dl class="stats">${(it.evidence ?? []).map((one) => html`<div key=${one.name} class="stat"><dt>${one.means}</dt><dd>${one.unit === "ratio" ? percent(one.value) : one.unit === "bytes" ? bytes(one.value) : `${decimal(one.value)}${one.unit && one.unit !== "count" ? ` ${one.unit}` : ""}`}</dd></div>`)}</dl>
      ${(it.lost ?? []).length ? html`<p class="note">Not chosen: ${it.lost.map((one) => `${one.what} (${one.why})`).join("; ")}.</p>` : null}</details>
    ${of.state === "open" ? html`<${Decide} of=${of} again=${again} />` : html`<p class="note">${words(of.state)} by ${of.decided_by ?? "nobody"}, ${moment(of.decided_at)}${of.reason ? `: “${of.reason}”` : ""}</p>`}</section>`;
}

function Effect({ name, of }) {
  const [title, as, better] = EFFECTS[name] ?? [words(name), decimal, 0];
  const gain = name === "usd_per_month" ? of.expected : of.expected - 1;
  const tone = better === 0 || gain === 0 ? "" : gain * better > 0 ? "is-good" : "is-bad";
  return html`<div class="stat"><dt>${title}</dt><dd><span class=${tone}>${as(of.expected)}</span><span class="note">${as(of.low)} to ${as(of.high)}</span></dd></div>`;
}

function Decide({ of, again }) {
  const [reason, setReason] = useState("");
  const [problem, setProblem] = useState(null);
  const tell = (verb) => () => ask(`/optimize/recommendations/${of.recommendation_id}/${verb}`, { method: "POST", body: { reason } }).then(again, (error) => setProblem(error.detail || error.message));
  const id = `reason-${of.recommendation_id}`;
  return html`<div class="decide"><label for=${id}>Why (is kept with the decision)</label><input id=${id} type="text" maxlength="2000" value=${reason} onInput=${(event) => setReason(event.target.value)} />
    <button type="button" class="strong" onClick=${tell("approve")}>Approve</button><button type="button" onClick=${tell("reject")}>Reject</button>
    ${problem ? html`<p role="alert" class="is-bad">${problem}</p>` : null}</div>`;
}
