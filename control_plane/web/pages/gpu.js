// One GPU: what it did over time, what held it back, whose it is, and how it is.
import { useState } from "preact/hooks";
import { url, useAnswer } from "../api.js";
import { Chart, pointsOf } from "../chart.js";
import { bytes, bytesPerSecond, celsius, count, percent, shortUuid, watts, words } from "../format.js";
import { html } from "../html.js";
import { Choice, Empty, Heading, Meter, Panel, Shown, Stat, Value } from "../parts.js";
import { WINDOWS } from "../windows.js";
import { Events } from "./node.js";

const HISTORY = ["gpu_utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio", "power_draw_watts", "temperature_gpu_celsius", "memory_used_bytes", "pcie_receive_bytes_per_second", "pcie_transmit_bytes_per_second"];

export function Gpu({ id }) {
  const now = useAnswer(url("/gpu/metrics", { gpu: id }), { seconds: 5 });
  const of = now.data?.items[0];
  return html`<${Heading} title=${of ? `${of.node} · GPU ${of.index ?? "?"}` : `GPU ${shortUuid(id)}`} above=${html`<a href="#/fleet">Fleet</a>${of ? html` / <a href=${`#/nodes/${encodeURIComponent(of.node)}`}>${of.node}</a>` : null}`}>
      <p class="sub">${of?.name ?? ""} <code>${id}</code></p><//>
    <${Shown} of=${now} rows=${6} empty=${html`<${Empty} title="No such GPU" />`}>${({ items: [gpu] }) => html`
      <div class="two"><${Now} gpu=${gpu} /><${Work} id=${id} /></div>
      <${Time} id=${id} gpu=${gpu} />
      <div class="two"><${Health} gpu=${gpu} /><${Events} node=${gpu.node} gpu=${id} /></div>`}<//>`;
}

const Now = ({ gpu }) => html`<${Panel} id="now" title="Now" note=${gpu.age_seconds == null ? "" : `${Math.round(gpu.age_seconds)} s ago`}>
  <${Meter} label="GPU utilisation" tone="classic" value=${gpu.gpu_utilization_ratio} why=${gpu.unknown.gpu_utilization_ratio} />
  <${Meter} label="SM active" value=${gpu.sm_active_ratio} why=${gpu.unknown.sm_active_ratio} />
  <${Meter} label="Tensor pipes" value=${gpu.tensor_active_ratio} why=${gpu.unknown.tensor_active_ratio} />
  <${Meter} label="DRAM bandwidth" value=${gpu.dram_active_ratio} why=${gpu.unknown.dram_active_ratio} />
  <${Meter} label="Memory used" tone="plain" value=${gpu.memory_total_bytes ? gpu.memory_used_bytes / gpu.memory_total_bytes : null} text=${bytes(gpu.memory_used_bytes)} why=${gpu.unknown.memory_used_bytes} />
  <${Meter} label="Power" tone="plain" value=${gpu.power_limit_watts ? gpu.power_draw_watts / gpu.power_limit_watts : null} text=${watts(gpu.power_draw_watts)} why=${gpu.unknown.power_draw_watts ?? gpu.unknown.power_limit_watts} /><//>`;

const ACTIVITY = { compute_bound: "good", memory_bound: "good", busy_unspecified: "plain", copying: "warn", half_idle: "warn", underused: "warn", host_starved: "warn", slowed: "bad", stuck: "bad", idle: "quiet" };
function Work({ id }) {
  const use = useAnswer(url("/gpu/utilization", { gpu: id, since: "1h" }), { seconds: 30 });
  return html`<${Panel} id="work" title="What it did" note="last hour"><${Shown} of=${use} empty=${html`<${Empty} title="Nothing was observed" />`}>${({ items: [of] }) => {
    const shares = Object.entries(of.activity_shares).sort((a, b) => b[1] - a[1]);
    return html`<p>Mostly <strong>${words(of.activity)}</strong>.${of.honest_signal ? html` The figure to trust for that is <b>${words(of.honest_signal.replace(/_ratio$/, ""))}</b>.` : null} ${of.note ?? ""}</p>
      ${shares.length ? html`<div class="shares" aria-hidden="true">${shares.map(([name, share]) => html`<span key=${name} class=${`share share-${ACTIVITY[name] ?? "plain"}`} style=${{ flexGrow: share }}></span>`)}</div>
      <ul class="share-keys">${shares.map(([name, share]) => html`<li key=${name}><span class=${`key share-${ACTIVITY[name] ?? "plain"}`}></span>${words(name)} <b>${percent(share)}</b></li>`)}</ul>` : null}
      <p class="note">Samples speak for ${percent(of.observed_ratio)} of the hour. Slowed by heat or supply: <${Value} of=${of.slowed_ratio} as=${percent} why=${of.unknown.slowed_ratio} />; held by the power limit: <${Value} of=${of.power_capped_ratio} as=${percent} why=${of.unknown.power_capped_ratio} />.</p>`;
  }}<//><//>`;
}

function Time({ id, gpu }) {
  const [since, setSince] = useState("1h");
  const history = useAnswer(url("/gpu/metrics/history", { gpu: id, node: gpu.node, since, step: WINDOWS[since].step, field: HISTORY }), { seconds: WINDOWS[since].seconds });
  return html`<${Panel} id="time" title="Over time" actions=${html`<${Choice} label="Window" options=${Object.entries(WINDOWS).map(([key, { title }]) => [key, title])} value=${since} onChange=${setSince} />`}>
    <${Shown} of=${history} isEmpty=${() => false} rows=${5}>${(answer) => {
      const around = { since: answer.since, until: answer.until, resolutionSeconds: answer.resolution_seconds };
      const line = (label, field, colour, dash) => ({ label, colour, dash, points: pointsOf(answer, field) });
      return html`<div class="charts">
        <${Chart} title="Utilisation" format=${percent} range=${[0, 1]} ...${around} series=${[line("GPU utilisation", "gpu_utilization_ratio", "classic", [6, 4]), line("SM active", "sm_active_ratio", "honest"), line("Tensor", "tensor_active_ratio", "series-3"), line("DRAM", "dram_active_ratio", "series-4")]} />
        <${Chart} title="Power" format=${watts} ...${around} series=${[line("Drawn", "power_draw_watts", "series-4")]} />
        <${Chart} title="Memory" binary format=${bytes} ...${around} series=${[line("Used", "memory_used_bytes", "honest")]} />
        <${Chart} title="Temperature" format=${celsius} ...${around} series=${[line("GPU", "temperature_gpu_celsius", "classic")]} />
        <${Chart} title="PCIe" format=${bytesPerSecond} ...${around} series=${[line("To the GPU", "pcie_receive_bytes_per_second", "honest"), line("From it", "pcie_transmit_bytes_per_second", "series-3", [6, 4])]} />
      </div>`;
    }}<//><//>`;
}

function Health({ gpu }) {
  const { health = {}, attribution = {} } = gpu;
  const why = health.unknown ?? {};
  const figure = (label, name, as = count) => html`<${Stat} label=${label}><${Value} of=${health[name]} as=${as} why=${why[name]} /><//>`;
  const holders = (attribution.allocated_to ?? []).map((one) => `${one.namespace}/${one.pod}`);
  const users = (attribution.used_by ?? []).map((one) => one.pod ? `${one.namespace}/${one.pod}` : one.name ?? `pid ${one.pid}`);
  return html`<${Panel} id="health" title="Health, and whose it is"><dl class="stats">
    <${Stat} label="Allocated to">${holders.length ? holders.join(", ") : html`<span class="unknown">nobody known</span>`}<//>
    <${Stat} label="Used by">${users.length ? [...new Set(users)].join(", ") : html`<span class="unknown">nobody known</span>`}<//>
    <${Stat} label="XID errors"><${Value} of=${gpu.xid_errors_total} as=${count} why=${gpu.unknown.xid_errors_total} /><//>
    ${figure("ECC corrected", "ecc_corrected_aggregate_total")}
    ${figure("ECC uncorrected", "ecc_uncorrected_aggregate_total")}
    ${figure("Rows remapped", "remapped_rows_uncorrectable_total")}
    ${figure("PCIe replays", "pcie_replays_total")}
    ${figure("NVLinks active", "nvlink_links_active_count")}
  </dl><//>`;
}
