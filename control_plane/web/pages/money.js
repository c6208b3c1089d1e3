// What GPUs cost, what of it went into work, and what could be had back.
import { useState } from "preact/hooks";
import { url, useAnswer } from "../api.js";
import { count, decimal, percent, usd, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Panel, Shown, Stat, Table, Value } from "../parts.js";

const WINDOWS = [["24h", "24 h"], ["7d", "7 d"], ["30d", "30 d"]];
const GROUPS = [["node", "Node"], ["model", "Model"], ["namespace", "Namespace"], ["gpu_model", "GPU model"]];
const CLASSES = { useful: "good", inefficient: "warn", stranded: "bad", allocated_idle: "bad-2", unallocated: "quiet", unknown: "unknown" };
const MEANS = {
  useful: "work, and nothing held it back", inefficient: "work, held back by heat, the CPU or copies", stranded: "memory is held and no work is done",
  allocated_idle: "empty and idle, and a pod has it", unallocated: "empty and idle, and nobody has it", unknown: "down, or what would tell is not known",
};
const nameOf = (item, group) => item[group] ?? item.fleet ?? "all";

export function Money() {
  const [since, setSince] = useState("24h");
  const [group, setGroup] = useState("node");
  const cost = useAnswer(url("/cost/summary", { since }), { seconds: 60 });
  const whole = useAnswer(url("/analysis/waste", { since }), { seconds: 60 });
  const parts = useAnswer(url("/analysis/waste", { since, by: group, limit: 1000 }), { seconds: 60 });
  const none = html`<${Empty} title="Nothing has been summed up yet"><p>Every five minutes of the clock are summed up a minute or two later.</p><//>`;
  return html`<${Heading} title="Money and waste"><p class="sub">Every paid GPU hour is in one class, and they add up.</p>
      <${Choice} label="Window" options=${WINDOWS} value=${since} onChange=${setSince} /><//>
    <${Shown} of=${cost} empty=${none}>${({ items: [of] }) => html`<${Totals} of=${of} />`}<//>
    <${Panel} id="classes" title="Where paid time went"><${Shown} of=${whole} empty=${none}>${({ items: [of] }) => html`<${Classes} of=${of} />`}<//><//>
    <${Panel} id="parts" title="By" actions=${html`<${Choice} label="By" options=${GROUPS} value=${group} onChange=${setGroup} />`}>
      <${Shown} of=${parts} empty=${html`<${Empty} title=${`No ${GROUPS.find(([key]) => key === group)[1].toLowerCase()} is known in this window`} />`}>${({ items }) => html`
        <${Table} caption=${`Cost and waste by ${group}`} rows=${items} keyOf=${(item) => nameOf(item, group)} first=${10} columns=${[
          { title: GROUPS.find(([key]) => key === group)[1], cell: (item) => (group === "node" ? html`<a href=${`#/nodes/${encodeURIComponent(item.node)}`}>${item.node}</a>` : nameOf(item, group)) },
          { title: "GPUs", number: true, cell: (item) => count(item.gpus) },
          { title: "Where it went", cell: (item) => html`<${Bar} of=${item.classes} />` },
          { title: "Useful", number: true, cell: (item) => percent(item.classes.find((one) => one.class === "useful")?.ratio) },
          { title: "Cost", number: true, cell: (item) => html`<${Value} of=${item.usd} as=${usd} why=${item.unknown?.usd} />` },
          { title: "Waste", number: true, cell: (item) => html`<${Value} of=${item.waste_usd} as=${usd} why=${item.unknown?.waste_usd} />` },
        ]} />`}<//><//>
    <${Opportunities} />`;
}

function Totals({ of }) {
  const [price] = of.prices;
  return html`<dl class="totals">
    <${Stat} label="Paid"><${Value} of=${of.usd} as=${usd} why=${of.unknown.usd} /><span class="note">${decimal(of.paid_gpu_hours)} GPU hours</span><//>
    <${Stat} label="Waste" tone="bad"><${Value} of=${of.waste_usd} as=${usd} why=${of.unknown.waste_usd} /><span class="note">${decimal(of.waste_gpu_hours)} GPU hours${of.usd ? `, ${percent(of.waste_usd / of.usd)} of it` : ""}</span><//>
    <${Stat} label="Energy"><${Value} of=${of.kilowatt_hours} as=${(v) => `${decimal(v)} kWh`} why=${of.unknown.kilowatt_hours} /><span class="note">${of.energy_usd == null ? "in the price of the hour" : usd(of.energy_usd)}</span><//>
    <${Stat} label="How far to believe it">${of.confidence.level}<span class="note">${of.confidence.because.join("; ")}</span><//>
    <${Stat} label="Price">${price ? html`${usd(price.usd_per_gpu_hour)}<span class="note">per hour of ${price.gpu_model}, ${words(price.basis)}${of.prices.length > 1 ? `; ${of.prices.length - 1} more` : ""}</span>` : html`<span class="unknown">unknown</span>`}<//>
  </dl>${of.unpriced_gpu_hours > 0 ? html`<p class="aside">${decimal(of.unpriced_gpu_hours)} GPU hours have no price and are not in the money. Enter one: <code>PUT /cost/prices</code>.</p>` : null}`;
}

const Bar = ({ of }) => html`<span class="shares shares-thin" role="img" aria-label=${of.filter((one) => one.ratio > 0).map((one) => `${words(one.class)} ${percent(one.ratio)}`).join(", ")}>${of.map((one) => html`<span key=${one.class} class=${`share share-${CLASSES[one.class]}`} style=${{ flexGrow: one.ratio }}></span>`)}</span>`;

function Classes({ of }) {
  return html`<${Bar} of=${of.classes} /><ul class="classes">${of.classes.map((one) => html`<li key=${one.class}>
    <p class="class-head"><span class=${`key share-${CLASSES[one.class]}`}></span>${words(one.class)} <b>${percent(one.ratio)}</b></p>
    <p class="class-money"><${Value} of=${one.usd} as=${usd} /></p><p class="note">${MEANS[one.class]}</p>
    ${one.causes.filter((cause) => one.causes.length > 1 || cause.cause !== one.class).map((cause) => html`<p key=${cause.cause} class="cause">${words(cause.cause)} <span>${decimal(cause.gpu_hours)} h</span></p>`)}
  </li>`)}</ul>`;
}

const FIRST = 5;

function Opportunities() {
  const [all, setAll] = useState(false);
  const found = useAnswer(url("/analysis/opportunities", { limit: 20 }), { seconds: 60 });
  const savings = useAnswer("/cost/savings", { seconds: 60 });
  return html`<${Panel} id="opportunities" title="What could be had back" note="a month, if things stay as they were">
    ${savings.data ? html`<dl class="totals"><${Stat} label="Promised"><${Value} of=${savings.data.promised.usd_per_month} as=${usd} why=${savings.data.promised.unknown?.usd_per_month} /><span class="note">${usd(savings.data.promised.usd_per_month_low)} to ${usd(savings.data.promised.usd_per_month_high)}</span><//>
      <${Stat} label="Realised"><${Value} of=${savings.data.realised.usd_per_month} as=${usd} why=${savings.data.realised.unknown?.usd_per_month} /><span class="note">${savings.data.realised.usd_per_month == null ? words(savings.data.realised.unknown?.usd_per_month ?? "") : `${count(savings.data.realised.executions)} executions`}</span><//></dl>` : null}
    <${Shown} of=${found} empty=${html`<${Empty} title="Nothing worth doing was found" />`}>${({ items }) => html`<ol class="opportunities">${items.slice(0, all ? undefined : FIRST).map((one) => html`<li key=${one.rank}>
      <div><p class="opportunity-title">${one.title}</p><p class="note">${words(one.about.kind)} ${one.about.name} · effort ${one.effort} · confidence ${one.confidence.level}${one.confidence.because.length ? `: ${one.confidence.because.join("; ")}` : ""}</p><p>${one.remedy}.</p><p class="note">To know: ${one.to_do}.</p></div>
      <p class="opportunity-money"><${Value} of=${one.saving.usd_per_month} as=${usd} why=${one.saving.unknown?.usd_per_month} /><span class="note">${usd(one.saving.usd_per_month_low)} – ${usd(one.saving.usd_per_month_high)}</span></p>
    </li>`)}</ol>${items.length > FIRST && !all ? html`<button type="button" class="more" onClick=${() => setAll(true)}>${items.length - FIRST} more</button>` : null}`}<//><//>`;
}
