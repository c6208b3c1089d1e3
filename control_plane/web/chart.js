// Histories as charts. Where nothing was sampled the line has a gap; a table of the figures stands below each chart.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { colour, onTheme } from "./colours.js";
import { UNKNOWN, isKnown, moment } from "./format.js";
import { html } from "./html.js";

const HEIGHT = 190;
const BINARY = Array.from({ length: 50 }, (_, n) => 2 ** n); // bytes fall on whole KiB, MiB, GiB

/** Answers of a history endpoint as columns: times, then one per series; what has no point at a time is null. */
export function columns(series, resolutionSeconds) {
  const times = [...new Set(series.flatMap((one) => one.points.map(([at]) => at)))].sort((a, b) => a - b);
  // Points may lie further apart than the step, where samples do: only what is much longer than usual is a gap.
  const steps = times.slice(1).map((at, n) => at - times[n]).sort((a, b) => a - b);
  const usual = Math.max(resolutionSeconds || 0, steps[Math.floor(steps.length / 2)] ?? 0);
  const withGaps = [];
  for (const at of times) {
    // A time of its own for what is missing, or the line would be drawn across.
    if (withGaps.length && at - withGaps.at(-1) > usual * 2.5) withGaps.push(withGaps.at(-1) + usual);
    withGaps.push(at);
  }
  return [withGaps, ...series.map((one) => {
    const values = new Map(one.points);
    return withGaps.map((at) => values.get(at) ?? null);
  })];
}

/** The points of one field that are known, out of a history answer, as [seconds, value]. */
export function pointsOf(answer, field, pick = (point) => point.mean, of = () => true) {
  const item = answer.items.find((one) => one.field === field && of(one));
  return (item?.points ?? []).map((point) => [Date.parse(point.at) / 1000, pick(point)]).filter(([, value]) => isKnown(value));
}

/** 14:30, with the day where it begins; UTC, as everything else here. */
function stamps(_, ticks) {
  let day = null;
  return ticks.map((at) => {
    const text = new Date(at * 1000).toISOString();
    const [today, time] = [text.slice(5, 10), text.slice(11, 16)];
    const isNew = day !== null ? today !== day : ticks.length > 1 && ticks.at(-1) - ticks[0] > 86_400;
    day = today;
    return isNew ? `${time}\n${today}` : time;
  });
}

function options(series, { format, range, span, width, binary, onMove }) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width, height: HEIGHT, legend: { show: false }, padding: [8, 20, 0, 0],
    cursor: { points: { size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: true, range: () => span }, y: { range: (_, low, high) => (range ? range : [Math.min(0, low ?? 0), (high ?? 1) * 1.08 || 1]) } },
    axes: [
      { ...axis, space: 80, size: span[1] - span[0] > 86_400 ? 44 : 30, values: stamps },
      // A tick that reads as the one before says nothing.
      { ...axis, size: 64, incrs: binary ? BINARY : undefined, values: (_, ticks) => ticks.map(format).map((text, n, all) => (text === all[n - 1] ? "" : text)) },
    ],
    series: [{}, ...series.map((one) => ({ stroke: colour(one.colour), width: one.width ?? 1.8, dash: one.dash, points: { show: one.points.length < 3, size: 5, fill: colour(one.colour) }, spanGaps: false }))],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    hooks: { setCursor: [(plot) => onMove(plot.cursor.idx)] },
  };
}

/** `series`: [{ label, colour, points: [[seconds, value]…], dash? }]; `since`/`until` as the answer has them. */
export function Chart({ title, series, format, range, binary, since, until, resolutionSeconds }) {
  const box = useRef(null);
  const [at, setAt] = useState(null);
  const [theme, setTheme] = useState(0);
  const [width, setWidth] = useState(0);
  const data = useMemo(() => columns(series, resolutionSeconds), [series, resolutionSeconds]);
  const span = [Date.parse(since) / 1000, Date.parse(until) / 1000];
  useEffect(() => onTheme(() => setTheme((n) => n + 1)), []);
  useEffect(() => {
    const looking = new ResizeObserver(() => box.current && setWidth(box.current.clientWidth));
    looking.observe(box.current);
    return () => looking.disconnect();
  }, []);
  useEffect(() => {
    if (width < 50) return undefined;
    const plot = new uPlot(options(series, { format, range, span, width, binary, onMove: setAt }), data, box.current);
    return () => plot.destroy();
  }, [data, width, theme, since, until]);
  const last = data[0].length - 1;
  const shown = at ?? last;
  const known = (values) => values.filter((value) => value !== null);
  return html`<figure class="chart">
    <figcaption><span class="chart-title">${title}</span><span class="chart-keys">${series.map((one, n) => html`<span key=${one.label}>
      <span class=${`line ${one.dash ? "line-dashed" : ""}`} style=${{ borderColor: `var(--${one.colour})` }}></span>${one.label} ${" "}<b>${data[n + 1][shown] === null || data[n + 1][shown] === undefined ? UNKNOWN : format(data[n + 1][shown])}</b></span>`)}</span></figcaption>
    ${last < 0 ? html`<p class="chart-empty">No samples in this window.</p>` : null}
    <div class="plot" ref=${box} role="img" aria-label=${`${title}: ${series.map((one, n) => {
      const values = known(data[n + 1]);
      return values.length ? `${one.label} ${format(Math.min(...values))} to ${format(Math.max(...values))}` : `${one.label} ${UNKNOWN}`;
    }).join("; ")}`} hidden=${last < 0}></div>
    ${last < 0 ? null : html`<details><summary>Figures${at !== null && data[0][at] ? html` <span class="note">${moment(new Date(data[0][at] * 1000).toISOString())}</span>` : null}</summary><table>
      <thead><tr><th scope="col">Series</th><th scope="col" class="number">Least</th><th scope="col" class="number">Mean</th><th scope="col" class="number">Most</th><th scope="col" class="number">Newest</th></tr></thead>
      <tbody>${series.map((one, n) => {
        const values = known(data[n + 1]);
        const figure = (of) => (values.length ? format(of) : UNKNOWN);
        return html`<tr key=${one.label}><th scope="row">${one.label}</th><td class="number">${figure(Math.min(...values))}</td><td class="number">${figure(values.reduce((a, b) => a + b, 0) / values.length)}</td><td class="number">${figure(Math.max(...values))}</td><td class="number">${figure(values.at(-1))}</td></tr>`;
      })}</tbody></table></details>`}
  </figure>`;
}
