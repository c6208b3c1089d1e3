// One inference server: how it is doing, over time, and how it is set up.
import { useState } from "preact/hooks";
import { answers, url, useAnswer } from "../api.js";
import { Chart, pointsOf } from "../chart.js";
import { count, decimal, duration, latency, percent, short, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Meter, Panel, Shown, Stat, State, Table, Value } from "../parts.js";
import { WINDOWS } from "../windows.js";
import { BOTTLENECKS, Verdict } from "./bottleneck.js";
import { Quantile } from "./servers.js";

// Histograms and single numbers are two questions.
const QUANTILES = ["ttft_seconds", "time_per_output_token_seconds"];
const NUMBERS = ["requests_running_count", "requests_waiting_count", "kv_cache_usage_ratio", "generation_tokens_total", "prompt_tokens_total"];
const TIMES = [["ttft_seconds", "To the first token"], ["time_per_output_token_seconds", "Per output token"], ["queue_seconds", "In the queue"], ["prefill_seconds", "Prefill"], ["decode_seconds", "Decode"], ["end_to_end_seconds", "End to end"]];

export function Server({ id }) {
  const server = useAnswer(`/inference/servers/${encodeURIComponent(id)}`, { seconds: 5 });
  const verdict = useAnswer(answers(BOTTLENECKS) ? url(BOTTLENECKS, { server: id, since: "1h" }) : null, { seconds: 15 });
  const of = server.data;
  return html`<${Heading} title=${of?.model ?? of?.url ?? `Server ${id}`} above=${html`<a href="#/servers">Inference servers</a>`}>${of ? html`<p class="sub"><${State} of=${of.state} detail=${of.state_detail} /> ${of.engine} <${Value} of=${of.version} /> on <a href=${`#/nodes/${encodeURIComponent(of.node)}`}>${of.node}</a> · <code>${of.url}</code></p>` : null}<//>
    <${Shown} of=${server} isEmpty=${() => false} rows=${6}>${(it) => html`
      ${verdict.data?.items?.[0] ? html`<${Verdict} of=${verdict.data.items[0]} />` : null}
      <div class="two"><${Load} of=${it} /><${Latency} id=${id} /></div>
      <${Time} id=${id} />
      <${Setup} of=${it} />`}<//>`;
}

function Load({ of }) {
  const load = of.load ?? { unknown: {} };
  const why = load.unknown ?? {};
  return html`<${Panel} id="load" title="Now" note=${of.age_seconds == null ? "" : `${duration(of.age_seconds)} ago`}>
    <${Meter} label="KV cache used" value=${load.kv_cache_usage_ratio} why=${why.kv_cache_usage_ratio} />
    <dl class="stats">
      <${Stat} label="Running"><${Value} of=${load.requests_running_count} as=${count} why=${why.requests_running_count} /><//>
      <${Stat} label="Waiting"><${Value} of=${load.requests_waiting_count} as=${count} why=${why.requests_waiting_count} /><//>
      <${Stat} label="KV cache holds"><${Value} of=${load.kv_cache_capacity_tokens} as=${(v) => `${short(v)} tokens`} why=${why.kv_cache_capacity_tokens} /><//>
      <${Stat} label="Preemptions"><${Value} of=${load.preemptions_total} as=${count} why=${why.preemptions_total} /><//>
      <${Stat} label="Finished"><${Value} of=${load.requests_finished_total} as=${short} why=${why.requests_finished_total} /><//>
      <${Stat} label="Failed"><${Value} of=${load.requests_failed_total} as=${short} why=${why.requests_failed_total} /><//>
    </dl><//>`;
}

function Latency({ id }) {
  const times = useAnswer(url("/metrics/latency", { server: id, since: "15m" }), { seconds: 15 });
  const columns = (of) => [
    { title: "Time", cell: ([, title]) => title },
    ...["p50", "p95", "p99"].map((q) => ({ title: q, number: true, cell: ([name]) => html`<${Quantile} of=${of[name]?.[q]} why=${of.unknown[name]} />` })),
    { title: "Requests", number: true, cell: ([name]) => html`<${Value} of=${of[name]?.count} as=${short} why=${of.unknown[name]} />` },
  ];
  return html`<${Panel} id="latency" title="How long requests take" note="15 minutes"><${Shown} of=${times} empty=${html`<${Empty} title="No request ended in this time" />`}>${({ items: [of] }) => html`<${Table} caption="Quantiles of times" columns=${columns(of)} rows=${TIMES} keyOf=${([name]) => name} />`}<//><//>`;
}

function Time({ id }) {
  const [since, setSince] = useState("1h");
  const [times, numbers] = [QUANTILES, NUMBERS].map((field) => useAnswer(url("/metrics/history", { server: id, since, step: WINDOWS[since].step, field }), { seconds: WINDOWS[since].seconds }));
  const around = (answer) => ({ since: answer.since, until: answer.until, resolutionSeconds: answer.resolution_seconds });
  return html`<${Panel} id="time" title="Over time" actions=${html`<${Choice} label="Window" options=${Object.entries(WINDOWS).map(([key, { title }]) => [key, title])} value=${since} onChange=${setSince} />`}>
    <div class="charts">
      <${Shown} of=${times} isEmpty=${() => false} rows=${5}>${(answer) => [["Time to first token", "ttft_seconds"], ["Time per output token", "time_per_output_token_seconds"]].map(([title, field]) => html`
        <${Chart} key=${field} title=${title} format=${latency} ...${around(answer)} series=${[["p95", "classic"], ["p50", "honest"]].map(([q, colour]) => ({ label: q, colour, points: pointsOf(answer, field, (point) => point[q]?.value) }))} />`)}<//>
      <${Shown} of=${numbers} isEmpty=${() => false} rows=${5}>${(answer) => {
        const line = (label, colour, field, pick, dash) => ({ label, colour, dash, points: pointsOf(answer, field, pick) });
        const rate = (point) => point.rate_per_second;
        return html`
        <${Chart} title="Requests" format=${decimal} ...${around(answer)} series=${[line("Waiting", "classic", "requests_waiting_count"), line("Running", "honest", "requests_running_count")]} />
        <${Chart} title="KV cache used" format=${percent} range=${[0, 1]} ...${around(answer)} series=${[line("Mean", "honest", "kv_cache_usage_ratio")]} />
        <${Chart} title="Tokens per second" format=${short} ...${around(answer)} series=${[line("Output", "honest", "generation_tokens_total", rate), line("Prompt", "series-4", "prompt_tokens_total", rate, [6, 4])]} />`;
      }}<//>
    </div><//>`;
}

function Setup({ of }) {
  const config = Object.entries(of.config ?? {});
  const gpus = of.attribution?.gpus ?? [];
  return html`<${Panel} id="setup" title="How it is set up"><dl class="stats">
    <${Stat} label="GPUs">${gpus.length ? gpus.map((gpu, n) => html`<a key=${gpu.gpu} href=${`#/gpus/${encodeURIComponent(gpu.gpu)}`}>${n + 1}</a> `) : html`<span class="unknown">unknown</span>`}<//>
    <${Stat} label="Longest context"><${Value} of=${of.max_model_len} as=${(v) => `${count(v)} tokens`} /><//>
    ${config.map(([name, value]) => html`<${Stat} key=${name} label=${words(name)}><${Value} of=${value} as=${(v) => (typeof v === "number" ? decimal(v) : String(v))} /><//>`)}
  </dl><//>`;
}
