// One node: its GPUs, its machine, what runs on it, and whether its agent can read everything.
import { useState } from "preact/hooks";
import { url, useAnswer } from "../api.js";
import { Chart, pointsOf } from "../chart.js";
import { bytes, celsius, count, decimal, duration, moment, percent, watts, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Meter, Panel, Shown, Stat, State, Table, Value } from "../parts.js";
import { WINDOWS } from "../windows.js";

const GPU_FIELDS = ["gpu_utilization_ratio", "sm_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_draw_watts", "temperature_gpu_celsius"];

export function Node({ id }) {
  const node = useAnswer(`/nodes/${encodeURIComponent(id)}`, { seconds: 10 });
  return html`<${Heading} title=${id} above=${html`<a href="#/nodes">Nodes</a>`}>${node.data ? html`<p class="sub"><${State} of=${node.data.state} />${node.data.replayed ? html` <span class="tag">replayed</span>` : null} ${node.data.attributes?.os ?? ""} ${node.data.attributes?.kernel ?? ""} · agent ${node.data.agent_version}</p>` : null}<//>
    <${Shown} of=${node} isEmpty=${() => false} rows=${6}>${(of) => html`
      <${Gpus} of=${of} />
      <${Use} node=${of.name} hasGpus=${of.gpus.length > 0} />
      <div class="two"><${Machine} node=${of.name} /><${Servers} servers=${of.inference_servers} /></div>
      <div class="two"><${Agent} of=${of} /><${Events} node=${of.name} /></div>`}<//>`;
}

function Gpus({ of }) {
  const gpus = useAnswer(of.gpus.length ? url("/gpu/metrics", { node: of.name, field: GPU_FIELDS }) : null, { seconds: 5 });
  if (of.gpus.length === 0) {
    const why = of.collectors.find((c) => c.collector === "gpu" && c.outcome !== "ok");
    return html`<${Panel} id="gpus" title="GPUs"><${Empty} title="No GPU here">${why ? html`<p>${why.detail || why.outcome}</p>` : null}<//><//>`;
  }
  return html`<${Shown} of=${gpus}>${({ items }) => html`<ul class="cards" aria-label="GPUs">${[...items].sort((a, b) => (a.index ?? 0) - (b.index ?? 0)).map((gpu) => html`<li key=${gpu.gpu} class="card">
    <p class="card-title"><a href=${`#/gpus/${encodeURIComponent(gpu.gpu)}`}>GPU ${gpu.index ?? "?"}</a><span class="note">${gpu.name}</span></p>
    <${Meter} label="GPU utilisation" tone="classic" value=${gpu.gpu_utilization_ratio} why=${gpu.unknown.gpu_utilization_ratio} />
    <${Meter} label="SM active" value=${gpu.sm_active_ratio} why=${gpu.unknown.sm_active_ratio} />
    <${Meter} label="Memory" tone="plain" value=${gpu.memory_total_bytes ? gpu.memory_used_bytes / gpu.memory_total_bytes : null} why=${gpu.unknown.memory_used_bytes} text=${bytes(gpu.memory_used_bytes)} />
    <p class="card-foot"><${Value} of=${gpu.power_draw_watts} as=${watts} why=${gpu.unknown.power_draw_watts} /> · <${Value} of=${gpu.temperature_gpu_celsius} as=${celsius} why=${gpu.unknown.temperature_gpu_celsius} /></p>
  </li>`)}</ul>`}<//>`;
}

function Use({ node, hasGpus }) {
  const [since, setSince] = useState("1h");
  const seconds = WINDOWS[since].seconds;
  const gpus = useAnswer(hasGpus ? url("/gpu/metrics/history", { node, by: "node", since, step: WINDOWS[since].step, field: ["gpu_utilization_ratio", "sm_active_ratio"] }) : null, { seconds });
  const host = useAnswer(url("/system/history", { node, since, step: WINDOWS[since].step, field: ["cpu_busy_ratio", "memory_used_bytes"] }), { seconds });
  const around = (answer) => ({ since: answer.since, until: answer.until, resolutionSeconds: answer.resolution_seconds });
  return html`<${Panel} id="use" title="Over time" actions=${html`<${Choice} label="Window" options=${Object.entries(WINDOWS).map(([key, { title }]) => [key, title])} value=${since} onChange=${setSince} />`}>
    <div class="charts">
      ${hasGpus ? html`<${Shown} of=${gpus} isEmpty=${() => false}>${(answer) => html`<${Chart} title="GPUs, mean of the node" format=${percent} range=${[0, 1]} ...${around(answer)} series=${[
        { label: "GPU utilisation", colour: "classic", dash: [6, 4], points: pointsOf(answer, "gpu_utilization_ratio") },
        { label: "SM active", colour: "honest", points: pointsOf(answer, "sm_active_ratio") }]} />`}<//>` : null}
      <${Shown} of=${host} isEmpty=${() => false}>${(answer) => html`<${Chart} title="CPU" format=${percent} range=${[0, 1]} ...${around(answer)} series=${[{ label: "Busy", colour: "series-3", points: pointsOf(answer, "cpu_busy_ratio") }]} />`}<//>
    </div><//>`;
}

function Machine({ node }) {
  const all = useAnswer(url("/system/all", { node }), { seconds: 10 });
  return html`<${Panel} id="machine" title="Machine"><${Shown} of=${all} empty=${html`<${Empty} title="No sample of the machine yet" />`}>${({ items: [of] }) => html`
    <${Meter} label="CPU busy" tone="plain" value=${of.cpu_busy_ratio} why=${of.unknown.cpu_busy_ratio} />
    <${Meter} label="Memory used" tone="plain" value=${of.memory_total_bytes ? of.memory_used_bytes / of.memory_total_bytes : null} text=${bytes(of.memory_used_bytes)} why=${of.unknown.memory_used_bytes} />
    <${Meter} label="Waited for CPU" tone="plain" value=${of.pressure_cpu_some_10s_ratio} why=${of.unknown.pressure_cpu_some_10s_ratio} />
    <${Meter} label="Waited for disk" tone="plain" value=${of.pressure_io_some_10s_ratio} why=${of.unknown.pressure_io_some_10s_ratio} />
    <dl class="stats"><${Stat} label="CPUs"><${Value} of=${of.cpu_logical_count} as=${count} why=${of.unknown.cpu_logical_count} /><//><${Stat} label="Memory"><${Value} of=${of.memory_total_bytes} as=${bytes} why=${of.unknown.memory_total_bytes} /><//><${Stat} label="Load, 1 min"><${Value} of=${of.load_1m_count} as=${decimal} why=${of.unknown.load_1m_count} /><//><${Stat} label="Up"><${Value} of=${of.uptime_seconds} as=${duration} why=${of.unknown.uptime_seconds} /><//></dl>`}<//><//>`;
}

const SERVER_COLUMNS = [
  { title: "Server", cell: (s) => html`<a href=${`#/servers/${s.server_id}`}>${s.url}</a>` },
  { title: "Model", cell: (s) => html`<${Value} of=${s.model} />` },
  { title: "State", cell: (s) => html`<${State} of=${s.state} detail=${s.state_detail} />` },
];
const Servers = ({ servers }) => html`<${Panel} id="servers" title="Inference servers">${servers.length ? html`<${Table} caption="Inference servers on this node" columns=${SERVER_COLUMNS} rows=${servers} keyOf=${(s) => s.server_id} />` : html`<${Empty} title="None was found here"><p>vLLM, SGLang and TGI are found by themselves when they listen on this host.</p><//>`}<//>`;

function Agent({ of }) {
  const columns = [
    { title: "Reads", cell: (c) => c.collector },
    { title: "Outcome", cell: (c) => html`<${State} of=${c.outcome} />` },
    { title: "Takes", number: true, cell: (c) => `${(c.duration_seconds * 1000).toFixed(1)} ms` },
    { title: "Why not", cell: (c) => c.detail },
  ];
  return html`<${Panel} id="agent" title="Agent" note=${`${count(of.lost_ticks)} ticks lost, ${count(of.refused_batches)} batches refused`}>
    ${of.collectors.length ? html`<${Table} caption="What the agent can read" columns=${columns} rows=${of.collectors} keyOf=${(c) => c.collector} />` : html`<${Empty} title="It has not sent a sample yet" />`}<//>`;
}

export function Events({ node, gpu }) {
  const events = useAnswer(url(`/nodes/${encodeURIComponent(node)}/events`, { since: "7d", limit: gpu ? 500 : 8 }), { seconds: 30 });
  const mine = (items) => (gpu ? items.filter((event) => event.entity?.key === gpu).slice(0, 8) : items);
  return html`<${Panel} id="events" title="Events" note="seven days"><${Shown} of=${events} isEmpty=${(data) => mine(data.items).length === 0} empty=${html`<${Empty} title="Nothing happened"><p>XIDs, lost GPUs and restarts would be here.</p><//>`}>${({ items }) => html`
    <ul class="events">${mine(items).map((event) => html`<li key=${event.taken_at + event.kind}><${State} of=${event.severity} /> <b>${words(event.kind)}${event.detail.number === undefined ? "" : ` ${event.detail.number}`}</b> <time datetime=${event.taken_at}>${moment(event.taken_at)}</time><br /><span class="note">${event.detail.name ?? event.detail.text ?? words(event.detail.class ?? "")}</span></li>`)}</ul>`}<//><//>`;
}
