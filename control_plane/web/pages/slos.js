// Objectives: kept or not, what is left of the budget, and how fast it burns.
import { url, useAnswer } from "../api.js";
import { count, decimal, duration, isKnown, moment, percent, percentFine, words } from "../format.js";
import { html } from "../html.js";
import { Empty, Heading, Panel, Shown, Stat, State, Table, Value } from "../parts.js";

const RANK = ["kept", "not_enough_traffic", "unknown", "burning", "violated"]; // the worst come first

export function Slos() {
  const slos = useAnswer(url("/slo/status", { limit: 1000 }), { seconds: 5 });
  const violations = useAnswer(url("/slo/violations", { since: "7d", limit: 50 }), { seconds: 15 });
  return html`<${Heading} title="SLO budgets"><p class="sub">Objectives are shares of good requests. What cannot be known is a range, never a pass.</p><//>
    <${Shown} of=${slos} empty=${html`<${Empty} title="Nothing has been promised yet"><p>An objective over one model, in one request:</p>
<pre tabindex="0">curl -X POST localhost:8003/slo/configure -H 'Content-Type: application/json' -d '{
  "name": "chat-ttft", "indicator": "ttft", "target_ratio": 0.95, "threshold_seconds": 0.5,
  "scope": {"model": "llama-8b"}, "window_days": 30}'</pre><//>`}>${({ items }) => html`<ul class="slos">${[...items].sort((a, b) => RANK.indexOf(b.state) - RANK.indexOf(a.state)).map((slo) => html`<${Slo} key=${slo.slo_id} of=${slo} />`)}</ul>`}<//>
    <${Panel} id="violations" title="Violations" note="seven days"><${Shown} of=${violations} empty=${html`<${Empty} title="None" />`}>${({ items }) => html`
      <${Table} caption="Violations" rows=${items} keyOf=${(one) => one.violation_id} columns=${[
        { title: "Objective", cell: (one) => one.name },
        { title: "Where", cell: (one) => one.url ?? "all in scope together" },
        { title: "Since", cell: (one) => html`<time datetime=${one.since}>${moment(one.since)}</time>` },
        { title: "Seen after", number: true, cell: (one) => duration(one.detected_after_seconds) },
        { title: "Ended", cell: (one) => (one.ended_at ? html`<time datetime=${one.ended_at}>${moment(one.ended_at)}</time>` : html`<${State} of="goes_on" />`) },
        { title: "Bad of all", number: true, cell: (one) => `${count(one.bad_events)} of ${count(one.events)}` },
      ]} />`}<//><//>`;
}

function Slo({ of }) {
  const { budget } = of;
  const left = budget.remaining_ratio;
  const low = isKnown(left?.low) ? left.low : null;
  const text = left == null ? null : left.low === left.high ? percent(left.low) : `${percent(left.low)} to ${percent(left.high)}`;
  return html`<li class="panel slo"><header class="panel-head"><h2>${of.name}</h2><${State} of=${of.state} /><p class="note">${of.objective}</p></header>
    <div class="budget"><p><span class="budget-number ${low !== null && low <= 0 ? "is-bad" : ""}"><${Value} of=${text} why=${budget.unknown?.remaining_ratio} /></span> <span class="note">of the error budget left; ${decimal(budget.covered_days)} of ${budget.window_days} days known</span></p>
      <span class=${`track ${low === null ? "track-unknown" : ""}`} aria-hidden="true">${low === null ? null : html`<span class=${`fill fill-${low > 0.5 ? "good" : low > 0.2 ? "warn" : "bad"}`} style=${{ width: `${Math.min(Math.max(low, 0), 1) * 100}%` }}></span>`}</span></div>
    <dl class="stats">
      <${Stat} label="Guard" >${words(of.guard.verdict)}<span class="note">${of.guard.because}</span><//>
      <${Stat} label="Attained"><${Value} of=${budget.attained_ratio ? (budget.attained_ratio.low === budget.attained_ratio.high ? percentFine(budget.attained_ratio.low) : `${percentFine(budget.attained_ratio.low)} to ${percentFine(budget.attained_ratio.high)}`) : null} why=${budget.unknown?.attained_ratio} /><span class="note">of ${percentFine(of.target_ratio)} promised</span><//>
      ${of.burn_rates.map((rate) => html`<${Stat} key=${rate.long_seconds} label=${`Burns, ${duration(rate.long_seconds)}`} tone=${rate.exceeded ? "bad" : ""}><${Value} of=${rate.long_rate} as=${(v) => `${decimal(v)}×`} why=${rate.unknown.long_rate} /><span class="note">${rate.severity} from ${decimal(rate.threshold)}×</span><//>`)}
    </dl></li>`;
}
