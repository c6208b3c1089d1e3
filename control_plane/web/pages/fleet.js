// The fleet at a glance: what nvidia-smi says beside what GPUs do, GPU by GPU and in sum.
import { useMemo, useState } from "preact/hooks";
import { url, useAnswer } from "../api.js";
import { bytes, celsius, count, isKnown, percent, shortUuid, watts } from "../format.js";
import { HeatMaps } from "../heat_map.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Loading, Meter, Panel, Shown, Table, Value } from "../parts.js";

const FIELDS = ["gpu_utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_draw_watts", "temperature_gpu_celsius"];
const HONEST = [["sm_active_ratio", "SM active"], ["tensor_active_ratio", "Tensor active"], ["dram_active_ratio", "DRAM bandwidth"]];
const NOTES = { sm_active_ratio: "share of multiprocessors with work", tensor_active_ratio: "share of time tensor pipes issue", dram_active_ratio: "share of time DRAM moves data" };
const CLASSIC = { field: "gpu_utilization_ratio", title: "GPU utilisation", note: "what nvidia-smi shows", tone: "classic" };
const LISTED = 25;
const names = new Intl.Collator("en", { numeric: true }); // node-2 before node-10
const byPlace = (a, b) => names.compare(a.node, b.node) || (a.index ?? 0) - (b.index ?? 0);

export function Fleet() {
  const gpus = useAnswer(url("/gpu/metrics", { field: FIELDS, limit: 10000 }), { seconds: 5, all: true });
  const nodes = useAnswer(url("/nodes", { limit: 10000 }), { seconds: 10, all: true });
  const use = useAnswer(url("/gpu/utilization", { since: "5m", limit: 10000 }), { seconds: 30 });
  const [honest, setHonest] = useState("sm_active_ratio");
  const asleep = useMemo(() => new Set((nodes.data?.items ?? []).filter((node) => node.state !== "connected").map((node) => node.name)), [nodes.data]);
  const cells = useMemo(() => (gpus.data?.items ?? []).map((gpu) => ({ ...gpu, old: asleep.has(gpu.node) })).sort(byPlace), [gpus.data, asleep]);
  const maps = useMemo(() => [CLASSIC, { field: honest, title: HONEST.find(([field]) => field === honest)[1], note: NOTES[honest], tone: "honest" }], [honest]);
  return html`<${Heading} title="Fleet"><${Counts} gpus=${cells} nodes=${nodes.data} /><//>
    <${Shown} of=${gpus} rows=${6} empty=${html`<${NoGpus} without=${gpus.data?.nodes_without ?? []} nodes=${nodes.data} />`}>${() => html`
      <${Headline} use=${use} />
      <${Panel} id="map" title="Every GPU, twice" note="The same place is the same GPU. Newest samples."
        actions=${html`<${Choice} label="Compare with" options=${HONEST} value=${honest} onChange=${setHonest} />`}>
        <${HeatMaps} gpus=${cells} maps=${maps} open=${(gpu) => { location.hash = `/gpus/${encodeURIComponent(gpu.gpu)}`; }} />
      <//>
      <${List} gpus=${cells} />`}<//>`;
}

function Counts({ gpus, nodes }) {
  if (nodes === null) return null;
  const by = Object.groupBy(nodes.items, (node) => node.state);
  const said = [`${count(gpus.length)} GPU${gpus.length === 1 ? "" : "s"} on ${count(new Set(gpus.map((gpu) => gpu.node)).size)} of ${count(nodes.items.length)} node${nodes.items.length === 1 ? "" : "s"}`];
  for (const state of ["stale", "gone", "never_sampled"]) if (by[state]) said.push(`${count(by[state].length)} ${state.replace("_", " ")}`);
  if (nodes.items.some((node) => node.replayed)) said.push("replayed recordings among them");
  return html`<p class="sub">${said.join(" · ")}</p>`;
}

/** The sentence that this product exists for. */
function Headline({ use }) {
  return html`<${Shown} of=${use} rows=${2} isEmpty=${() => false}>${({ fleet }) => {
    const [classic, honest] = [fleet.gpu_utilization_ratio, fleet.sm_active_ratio];
    const gap = isKnown(classic) && isKnown(honest) ? Math.round(classic * 100) - Math.round(honest * 100) : null;
    return html`<section class="panel headline" aria-label="Utilisation of the fleet, mean of five minutes">
      <div class="big big-classic"><span class="big-number"><${Value} of=${classic} as=${percent} why=${fleet.unknown.gpu_utilization_ratio} /></span><span class="big-label">GPU utilisation<small>what nvidia-smi shows: any kernel was running</small></span></div>
      <div class="big big-honest"><span class="big-number"><${Value} of=${honest} as=${percent} why=${fleet.unknown.sm_active_ratio} /></span><span class="big-label">SMs active<small>${fleet.sm_active_ratio_gpus < fleet.gpus ? `known of ${count(fleet.sm_active_ratio_gpus)} of ${count(fleet.gpus)} GPUs` : "multiprocessors that had work"}</small></span></div>
      <div class="headline-more">
        <p class="gap">${gap === null ? "No GPU here says how many of its multiprocessors work." : gap > 0 ? html`<strong>${gap} points</strong> of what looks busy is not.` : "Both agree."}</p>
        <${Meter} label="Tensor pipes" value=${fleet.tensor_active_ratio} why=${fleet.unknown.tensor_active_ratio} />
        <${Meter} label="DRAM bandwidth" value=${fleet.dram_active_ratio} why=${fleet.unknown.dram_active_ratio} />
        <${Meter} label="Nearest limit" value=${fleet.roofline_ratio} why=${fleet.unknown.roofline_ratio} />
      </div>
    </section>`;
  }}<//>`;
}

const COLUMNS = [
  { title: "GPU", cell: (gpu) => html`<a href=${`#/gpus/${encodeURIComponent(gpu.gpu)}`}>${gpu.node} · ${gpu.index ?? "?"}</a> <span class="note">${shortUuid(gpu.gpu)}</span>` },
  { title: "Model", cell: (gpu) => gpu.name ?? "" },
  { title: "GPU utilisation", number: true, cell: (gpu) => html`<${Value} of=${gpu.gpu_utilization_ratio} as=${percent} why=${gpu.unknown.gpu_utilization_ratio} />` },
  { title: "SM active", number: true, cell: (gpu) => html`<${Value} of=${gpu.sm_active_ratio} as=${percent} why=${gpu.unknown.sm_active_ratio} />` },
  { title: "Tensor", number: true, cell: (gpu) => html`<${Value} of=${gpu.tensor_active_ratio} as=${percent} why=${gpu.unknown.tensor_active_ratio} />` },
  { title: "DRAM", number: true, cell: (gpu) => html`<${Value} of=${gpu.dram_active_ratio} as=${percent} why=${gpu.unknown.dram_active_ratio} />` },
  { title: "Memory", number: true, cell: (gpu) => html`<${Value} of=${gpu.memory_used_bytes} as=${bytes} why=${gpu.unknown.memory_used_bytes} />` },
  { title: "Power", number: true, cell: (gpu) => html`<${Value} of=${gpu.power_draw_watts} as=${watts} why=${gpu.unknown.power_draw_watts} />` },
  { title: "Temp.", number: true, cell: (gpu) => html`<${Value} of=${gpu.temperature_gpu_celsius} as=${celsius} why=${gpu.unknown.temperature_gpu_celsius} />` },
];
const gap = (gpu) => (isKnown(gpu.sm_active_ratio) && isKnown(gpu.gpu_utilization_ratio) ? gpu.gpu_utilization_ratio - gpu.sm_active_ratio : -2);
const idle = (gpu) => (isKnown(gpu.sm_active_ratio) ? -gpu.sm_active_ratio : isKnown(gpu.gpu_utilization_ratio) ? -gpu.gpu_utilization_ratio : -2);
const ORDERS = { gap: ["Looks busiest for nothing", gap], idle: ["Idlest", idle], hot: ["Hottest", (gpu) => gpu.temperature_gpu_celsius ?? -1], node: ["By node", null] };

function List({ gpus }) {
  const [order, setOrder] = useState("gap");
  const [sought, setSought] = useState("");
  const rows = useMemo(() => {
    const by = ORDERS[order][1];
    const wanted = gpus.filter((gpu) => `${gpu.node} ${gpu.name} ${gpu.gpu}`.toLowerCase().includes(sought.toLowerCase()));
    return by === null ? wanted : wanted.sort((a, b) => by(b) - by(a));
  }, [gpus, order, sought]);
  return html`<${Panel} id="list" title="GPUs" note=${count(rows.length)}
    actions=${html`${gpus.length > LISTED ? html`<input type="search" aria-label="Find GPUs" placeholder="Node, model, UUID" value=${sought} onInput=${(event) => setSought(event.target.value)} />` : null}
      <label class="select"><span class="visually-hidden">Order</span><select value=${order} onChange=${(event) => setOrder(event.target.value)}>${Object.entries(ORDERS).map(([key, [title]]) => html`<option key=${key} value=${key}>${title}</option>`)}</select></label>`}>
    <${Table} caption="GPUs of the fleet, newest samples" columns=${COLUMNS} rows=${rows} keyOf=${(gpu) => gpu.gpu + gpu.node} />
  <//>`;
}

function NoGpus({ without, nodes }) {
  if (nodes === null) return html`<${Loading} />`;
  if (nodes.items.length === 0)
    return html`<${Empty} title="No host has reported yet">
      <p>Let one in: make a token here, and start the agent there.</p>
      <pre tabindex="0">optiinfra join-token
OPTIINFRA_JOIN_TOKEN=oi1.… optiinfra agent --server CONTROL_PLANE:8004</pre>
      <p>This page shows it within seconds.</p><//>`;
  return html`<${Empty} title="No GPU has been seen">
    <p>${count(nodes.items.length)} node${nodes.items.length === 1 ? "" : "s"} reported. What their agents say of GPUs:</p>
    <ul>${without.map((one) => html`<li key=${one.node}><a href=${`#/nodes/${encodeURIComponent(one.node)}`}>${one.node}</a>: ${one.detail || one.outcome}</li>`)}</ul>
    <p>Without a GPU, play a recording of one: <code>optiinfra replay tests/data/recordings/h200-loads.rec</code></p><//>`;
}
