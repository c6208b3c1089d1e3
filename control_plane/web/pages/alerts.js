// What is wrong now, the worst first, and who has it in hand.
import { useState } from "preact/hooks";
import { answers, ask, url, useAnswer } from "../api.js";
import { duration, moment, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Shown, State } from "../parts.js";

const RANK = { critical: 0, warning: 1, info: 2 };

export function Alerts() {
  const [state, setState] = useState("now");
  const isThere = answers("/alerts");
  const alerts = useAnswer(isThere ? url("/alerts", { limit: 500, state: state === "now" ? null : ["resolved"] }) : null, { seconds: 5 });
  if (!isThere)
    return html`<${Heading} title="Alerts" /><${Empty} title="This release has no alerts yet"><p>What is wrong is on the <a href="#/nodes">nodes'</a> and the <a href="#/slos">SLOs'</a> pages.</p><//>`;
  return html`<${Heading} title="Alerts"><${Choice} label="Which" options=${[["now", "Now"], ["past", "Resolved, last day"]]} value=${state} onChange=${setState} /><//>
    <${Shown} of=${alerts} empty=${html`<${Empty} title=${state === "now" ? "Nothing is wrong that a rule looks for" : "None ended in the last day"}>${state === "now" ? html`<p>The rules: <code>GET /alerts/rules</code>.</p>` : null}<//>`}>${({ items }) => html`
      <ul class="alerts">${[...items].sort((a, b) => RANK[a.severity] - RANK[b.severity]).map((one) => html`<${Alert} key=${one.alert_id} of=${one} again=${alerts.again} />`)}</ul>`}<//>`;
}

function Alert({ of, again }) {
  const [problem, setProblem] = useState(null);
  const acknowledge = () => ask(`/alerts/${of.alert_id}/acknowledge`, { method: "POST", body: {} }).then(again, (error) => setProblem(error.detail || error.message));
  return html`<li class=${`panel alert alert-${of.severity}`}>
    <p class="alert-head"><${State} of=${of.severity} /> <strong>${of.summary}</strong> ${of.is_flapping ? html`<span class="tag">comes and goes</span>` : null}${of.silenced_by ? html`<span class="tag">silenced</span>` : null}${of.inhibited_by ? html`<span class="tag">explained by another</span>` : null}</p>
    <p class="note">${words(of.rule)} · ${words(of.state)} · since <time datetime=${of.since}>${moment(of.since)}</time>${of.resolved_at ? html`, until <time datetime=${of.resolved_at}>${moment(of.resolved_at)}</time>` : ` (${duration(of.age_seconds)})`}</p>
    <p class="labels">${Object.entries(of.labels).map(([name, value]) => html`<span key=${name} class="tag">${words(name)} ${value}</span>`)}</p>
    ${of.acknowledged_at ? html`<p class="note">In hand: ${of.acknowledged_by}${of.acknowledgement ? `, “${of.acknowledgement}”` : ""}</p>` : of.resolved_at ? null : html`<button type="button" onClick=${acknowledge}>I have it</button>`}
    ${problem ? html`<p role="alert" class="is-bad">${problem}</p>` : null}
    ${of.runbook_url && /^https?:/.test(of.runbook_url) ? html`<p><a href=${of.runbook_url} rel="noreferrer">What to do</a></p>` : null}</li>`;
}
