// Every node: is it there, and can its numbers be relied on.
import { useMemo, useState } from "preact/hooks";
import { url, useAnswer } from "../api.js";
import { count, duration } from "../format.js";
import { html } from "../html.js";
import { Empty, Heading, Shown, State, Table, Value } from "../parts.js";

const COLUMNS = [
  { title: "Node", cell: (node) => html`<a href=${`#/nodes/${encodeURIComponent(node.name)}`}>${node.name}</a>${node.replayed ? html` <span class="tag">replayed</span>` : null}` },
  { title: "State", cell: (node) => html`<${State} of=${node.state} />` },
  { title: "Newest sample", number: true, cell: (node) => html`<${Value} of=${node.age_seconds} as=${(v) => `${duration(v)} ago`} why=${node.unknown.age_seconds} />` },
  { title: "Every", number: true, cell: (node) => html`<${Value} of=${node.sampling_interval_seconds} as=${duration} why=${node.unknown.sampling_interval_seconds} />` },
  { title: "Clock off by", number: true, cell: (node) => html`<${Value} of=${node.clock_offset_seconds} as=${(v) => `${Math.abs(v).toFixed(Math.abs(v) < 10 ? 2 : 0)} s`} why=${node.unknown.clock_offset_seconds} />` },
  { title: "Lost ticks", number: true, cell: (node) => count(node.lost_ticks) },
  { title: "Agent", cell: (node) => node.agent_version },
  { title: "Cannot read", cell: (node) => node.collectors.filter((c) => c.outcome !== "ok").map((c) => html`<span key=${c.collector} class="trouble" title=${c.detail}>${c.collector}: ${c.outcome}</span>`) },
];
const RANK = { never_sampled: 0, stale: 1, gone: 2, connected: 3 };

export function Nodes() {
  const nodes = useAnswer(url("/nodes", { limit: 10000 }), { seconds: 5, all: true });
  const [sought, setSought] = useState("");
  const rows = useMemo(() => (nodes.data?.items ?? []).filter((node) => node.name.toLowerCase().includes(sought.toLowerCase())).sort((a, b) => RANK[a.state] - RANK[b.state] || a.name.localeCompare(b.name, "en", { numeric: true })), [nodes.data, sought]);
  return html`<${Heading} title="Nodes"><p class="sub">Those that need a look come first. A node is stale when three samples in a row are missing, and gone after five minutes.</p><//>
    ${(nodes.data?.items.length ?? 0) > 12 ? html`<p><input type="search" aria-label="Find nodes" placeholder="Name" value=${sought} onInput=${(event) => setSought(event.target.value)} /></p>` : null}
    <${Shown} of=${nodes} empty=${html`<${Empty} title="No host has reported yet"><p>The <a href="#/fleet">fleet's page</a> says how to let one in.</p><//>`}>${() => html`
      <section class="panel"><${Table} caption="Nodes" columns=${COLUMNS} rows=${rows} first=${50} keyOf=${(node) => node.node_id} /></section>`}<//>`;
}
