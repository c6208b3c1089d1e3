// Numbers as people read them. null and undefined are no numbers: they stay "unknown", whatever the unit.
export const UNKNOWN = "unknown";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const as = (write) => (value) => (known(value) ? write(value) : UNKNOWN);
const digits = (most, least = 0) => new Intl.NumberFormat("en", { maximumFractionDigits: most, minimumFractionDigits: least });
const [whole, one, two] = [digits(0), digits(1), digits(2)];

export const isKnown = known;
export const count = as((v) => whole.format(v));
export const decimal = as((v) => (Math.abs(v) >= 100 ? whole : Math.abs(v) >= 10 ? one : two).format(v));
/** 0..1 as percent. What is above nothing is never written as 0 %, what is below everything never as 100 %. */
export const percent = as((v) => {
  const p = v * 100;
  if (p > 0 && p < 0.1) return "< 0.1 %";
  if (p < 100 && p > 99.9) return "> 99.9 %";
  return `${((Math.abs(p) < 10 || (p > 99 && p < 100)) && p % 1 !== 0 ? one : whole).format(p)} %`.replace("-", "−");
});
/** The same where hundredths decide, as in what was promised. */
export const percentFine = as((v) => (v < 1 && v > 0.9999 ? "> 99.99 %" : `${two.format(v * 100)} %`).replace("-", "−"));
export const watts = as((v) => (v >= 10_000 ? `${one.format(v / 1000)} kW` : `${whole.format(v)} W`));
export const celsius = as((v) => `${whole.format(v)} °C`);

const scaled = (units, base) => as((v) => {
  let n = 0;
  while (Math.abs(v) >= base && n < units.length - 1) [v, n] = [v / base, n + 1];
  return `${(Math.abs(v) >= 100 || n === 0 ? whole : one).format(v)} ${units[n]}`;
});
export const bytes = scaled(["B", "KiB", "MiB", "GiB", "TiB"], 1024);
export const bytesPerSecond = scaled(["B/s", "kB/s", "MB/s", "GB/s"], 1000);
export const short = as((v) => (Math.abs(v) < 10_000 ? decimal(v) : new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(v)));
export const usd = as((v) => {
  const most = Math.abs(v) >= 100 ? 0 : 2;
  return new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: most, minimumFractionDigits: most }).format(v);
});

/** Seconds that a request takes: 1.2 ms, 340 ms, 2.4 s. */
export const latency = as((v) => (v < 0.01 ? `${two.format(v * 1000)} ms` : v < 1 ? `${whole.format(v * 1000)} ms` : v < 100 ? `${two.format(v)} s` : `${whole.format(v)} s`));
/** A stretch of time: 4 s, 12 min, 3 h, 5 d. */
export const duration = as((v) => {
  if (v < 90) return `${whole.format(v)} s`;
  if (v < 5400) return `${whole.format(v / 60)} min`;
  if (v < 172_800) return `${one.format(v / 3600)} h`;
  return `${one.format(v / 86_400)} d`;
});
export const moment = (text) => (text ? `${new Date(text).toISOString().slice(0, 19).replace("T", " ")} UTC` : UNKNOWN);
/** not_exposed → not exposed: a reason as a person would say it. */
export const words = (name) => String(name ?? "").replaceAll("_", " ");
/** GPU-d79aa688-b247-… → d79aa688: enough to tell a fleet's GPUs apart beside node and index. */
export const shortUuid = (uuid) => uuid.replace(/^(GPU|MIG)-/, "").slice(0, 8);
export const gpuName = (gpu) => `${gpu.node} · GPU ${gpu.index ?? "?"}`;
