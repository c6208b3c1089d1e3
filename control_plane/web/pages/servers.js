// Inference servers: what each is doing, how fast, and what binds it.
import { useMemo } from "preact/hooks";
import { answers, url, useAnswer } from "../api.js";
import { count, decimal, latency, percent, short } from "../format.js";
import { html } from "../html.js";
import { Empty, Heading, Shown, State, Table, Value } from "../parts.js";
import { BOTTLENECKS, Bottleneck } from "./bottleneck.js";

const by = (answer) => new Map((answer?.items ?? []).map((item) => [item.server_id, item]));
/** A quantile with the bounds it is known within: a histogram knows no more. */
export const Quantile = ({ of, why }) => (of ? html`<span title=${of.high == null ? "above the last bound of the histogram" : `between ${latency(of.low)} and ${latency(of.high)}`}>${of.value == null && of.low != null ? `> ${latency(of.low)}` : latency(of.value)}</span>` : html`<${Value} of=${null} why=${why} />`);

export function Servers() {
  const servers = useAnswer(url("/inference/servers", { limit: 10000 }), { seconds: 5, all: true });
  const [times, flow] = ["/metrics/latency", "/metrics/throughput"].map((path) => useAnswer(url(path, { since: "15m", limit: 10000 }), { seconds: 15 }));
  const verdicts = useAnswer(answers(BOTTLENECKS) ? url(BOTTLENECKS, { since: "1h", limit: 1000 }) : null, { seconds: 15 });
  const [latencies, flows, binding] = useMemo(() => [by(times.data), by(flow.data), by(verdicts.data)], [times.data, flow.data, verdicts.data]);
  const columns = [
    { title: "Server", cell: (s) => html`<a href=${`#/servers/${s.server_id}`}>${s.model ?? s.url}</a> <span class="note">${s.engine} · ${s.node}</span>` },
    { title: "State", cell: (s) => html`<${State} of=${s.state} detail=${s.state_detail} />` },
    ...(answers(BOTTLENECKS) ? [{ title: "Bound by", cell: (s) => html`<${Bottleneck} of=${binding.get(s.server_id)} />` }] : []),
    { title: "Running", number: true, cell: (s) => html`<${Value} of=${s.load?.requests_running_count} as=${count} why=${s.load?.unknown.requests_running_count} />` },
    { title: "Waiting", number: true, cell: (s) => html`<${Value} of=${s.load?.requests_waiting_count} as=${count} why=${s.load?.unknown.requests_waiting_count} />` },
    { title: "KV cache", number: true, cell: (s) => html`<${Value} of=${s.load?.kv_cache_usage_ratio} as=${percent} why=${s.load?.unknown.kv_cache_usage_ratio} />` },
    { title: "TTFT p95", number: true, cell: (s) => html`<${Quantile} of=${latencies.get(s.server_id)?.ttft_seconds?.p95} why=${latencies.get(s.server_id)?.unknown?.ttft_seconds} />` },
    { title: "Per token p95", number: true, cell: (s) => html`<${Quantile} of=${latencies.get(s.server_id)?.time_per_output_token_seconds?.p95} why=${latencies.get(s.server_id)?.unknown?.time_per_output_token_seconds} />` },
    { title: "Requests/s", number: true, cell: (s) => html`<${Value} of=${flows.get(s.server_id)?.requests_per_second} as=${decimal} why=${flows.get(s.server_id)?.unknown?.requests_per_second} />` },
    { title: "Output tokens/s", number: true, cell: (s) => html`<${Value} of=${flows.get(s.server_id)?.output_tokens_per_second} as=${short} why=${flows.get(s.server_id)?.unknown?.output_tokens_per_second} />` },
  ];
  return html`<${Heading} title="Inference servers"><p class="sub">Load is of the newest scrape, the rest of 15 minutes. Times are quantiles of the engine's own histograms; point at one for the bounds it is known within.</p><//>
    ${answers(BOTTLENECKS) ? null : html`<p class="aside">This release does not judge live servers yet. A recorded one it does: <code>optiinfra diagnose --recording DIR</code>.</p>`}
    <${Shown} of=${servers} empty=${html`<${Empty} title="No inference server has been found">
        <p>Start vLLM, SGLang (with <code>--enable-metrics</code>) or TGI on a host with an agent; it appears here within seconds. In a pod with a network of its own it has to be named: <code>OPTIINFRA_SCRAPE_TARGETS</code>.</p><//>`}>${({ items }) => html`
      <section class="panel"><${Table} caption="Inference servers" columns=${columns} rows=${[...items].sort((a, b) => (a.state === "gone") - (b.state === "gone") || (a.model ?? "").localeCompare(b.model ?? ""))} keyOf=${(s) => s.server_id} /></section>`}<//>`;
}
