// Every GPU of the fleet as a cell, node by node, on canvases beside each other: the same place is the same GPU, so a
// figure that flatters stands right beside one that does not. Canvas, because 4,000 GPUs as elements would be slow.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { onTheme, colour, ramp } from "./colours.js";
import { gpuName, isKnown, percent } from "./format.js";
import { html } from "./html.js";

const SIZES = [88, 72, 60, 48, 40, 34, 28, 23, 19, 16, 13, 11, 9, 7, 6, 5, 4, 3];
const MOST_HEIGHT = 480;
const LABEL_FROM = 16; // a cell this large leaves room for the node's name above its block
const NUMBER_FROM = 34; // and one this large for its number

/** Where each cell lies: the largest cells with which all of them fit. `groups` is [[node, [gpu…]]…]. */
export function laidOut(groups, width) {
  for (const size of SIZES) {
    const placed = placedAt(groups, width, size);
    if (placed.height <= MOST_HEIGHT || size === SIZES.at(-1)) return placed;
  }
  return null;
}

function placedAt(groups, width, size) {
  const gap = size >= 28 ? 4 : size >= 13 ? 2 : 1;
  const label = size >= LABEL_FROM ? 18 : 0;
  const between = label ? 14 : Math.max(4, gap * 3);
  const fits = Math.max(1, Math.floor((width + gap) / (size + gap)));
  const [cells, names] = [[], []];
  let [x, y, rowHeight] = [0, 0, 0];
  for (const [node, gpus] of groups) {
    const columns = Math.min(gpus.length, fits >= 8 && groups.length <= 4 ? 8 : Math.min(fits, 4));
    const least = label ? Math.min(width, node.length * 6.6) : 0; // room for its name
    const wide = Math.max(columns * (size + gap) - gap, least);
    const high = label + Math.ceil(gpus.length / columns) * (size + gap) - gap;
    if (x > 0 && x + wide > width) [x, y, rowHeight] = [0, y + rowHeight + between, 0];
    if (label) names.push({ node, x, y: y + 12 });
    gpus.forEach((gpu, n) => cells.push({ gpu, x: x + (n % columns) * (size + gap), y: y + label + Math.floor(n / columns) * (size + gap) }));
    x += wide + between;
    rowHeight = Math.max(rowHeight, high);
  }
  return { size, cells, names, height: y + rowHeight };
}

function hatched(context, x, y, size) {
  context.save();
  context.beginPath();
  context.rect(x, y, size, size);
  context.clip();
  context.fillStyle = colour("unknown-fill");
  context.fillRect(x, y, size, size);
  context.strokeStyle = colour("unknown-line");
  context.lineWidth = 1;
  context.beginPath();
  for (let at = -size; at < size; at += Math.max(4, size / 5)) {
    context.moveTo(x + at, y + size);
    context.lineTo(x + at + size, y);
  }
  context.stroke();
  context.restore();
}

function draw(canvas, placed, width, field, current) {
  const density = devicePixelRatio || 1;
  const height = Math.ceil(placed.height) + 4;
  canvas.width = Math.round((width + 4) * density);
  canvas.height = Math.round(height * density);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.translate(2, 2); // the mark of the current cell needs an edge
  const at = ramp();
  const { size } = placed;
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colour("muted");
  for (const { node, x, y } of placed.names) context.fillText(node, x, y);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `600 ${Math.min(20, size / 3.1)}px system-ui, sans-serif`;
  placed.cells.forEach(({ gpu, x, y }, n) => {
    const value = gpu.old ? null : gpu[field];
    if (isKnown(value)) {
      const shade = at(value);
      context.fillStyle = shade.css;
      context.fillRect(x, y, size, size);
      if (size >= NUMBER_FROM) {
        context.fillStyle = shade.isDark ? "#fff" : "#10202f";
        context.fillText(percent(value).replace(" ", ""), x + size / 2, y + size / 2 + 1);
      }
    } else {
      hatched(context, x, y, size);
      if (size >= NUMBER_FROM) {
        context.fillStyle = colour("muted");
        context.fillText("?", x + size / 2, y + size / 2 + 1);
      }
    }
    if (n === current) {
      context.strokeStyle = colour("text");
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, size + 2, size + 2);
    }
  });
}

/** The cell under a point, or the one next to `from` in a direction; -1 for none. */
export function cellAt(placed, x, y) {
  return placed.cells.findIndex((cell) => x >= cell.x && x <= cell.x + placed.size && y >= cell.y && y <= cell.y + placed.size);
}

function stepped(placed, from, key) {
  const { cells } = placed;
  if (from < 0) return 0;
  const here = cells[from];
  if (key === "ArrowRight") return Math.min(from + 1, cells.length - 1);
  if (key === "ArrowLeft") return Math.max(from - 1, 0);
  if (key === "Home") return 0;
  if (key === "End") return cells.length - 1;
  const down = key === "ArrowDown" ? 1 : -1;
  let [best, least] = [from, Infinity];
  cells.forEach((cell, n) => {
    const dy = (cell.y - here.y) * down;
    const far = dy * 4 + Math.abs(cell.x - here.x);
    if (dy > 0 && far < least) [best, least] = [n, far];
  });
  return best;
}

/** `maps` are [{ field, title, note }]; `open(gpu)` goes to one. */
export function HeatMaps({ gpus, maps, open }) {
  const frame = useRef(null);
  const canvases = useRef([]);
  const [width, setWidth] = useState(0);
  const [current, setCurrent] = useState(-1);
  const [theme, setTheme] = useState(0);
  const groups = useMemo(() => [...Map.groupBy(gpus, (gpu) => gpu.node)], [gpus]);
  const placed = useMemo(() => (width > 0 ? laidOut(groups, width) : null), [groups, width]);
  useEffect(() => onTheme(() => setTheme((n) => n + 1)), []);
  useEffect(() => {
    const looking = new ResizeObserver(() => {
      const box = canvases.current[0]?.parentElement; // gone when the page was left meanwhile
      if (box) setWidth(Math.max(40, Math.floor(box.clientWidth) - 4));
    });
    looking.observe(frame.current);
    return () => looking.disconnect();
  }, []);
  useEffect(() => {
    if (placed) maps.forEach(({ field }, n) => draw(canvases.current[n], placed, width, field, current));
  }, [placed, width, current, theme, gpus, maps]);
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return placed ? cellAt(placed, event.clientX - box.left - 2, event.clientY - box.top - 2) : -1;
  };
  const onKey = (event) => {
    if (event.key === "Enter" && current >= 0) open(placed.cells[current].gpu);
    else if (placed && /^(Arrow|Home|End)/.test(event.key)) {
      event.preventDefault();
      setCurrent((from) => stepped(placed, from, event.key)); // keys may come faster than the page is drawn
    }
  };
  const chosen = placed?.cells[current]?.gpu;
  const unknown = maps.map(({ field }) => gpus.filter((gpu) => gpu.old || !isKnown(gpu[field])).length);
  return html`<div class="heat-maps" ref=${frame} tabindex="0" role="application" aria-roledescription="heat map"
      aria-label="GPUs of the fleet: arrow keys go from one to the next, Enter opens it. The table below has the same figures."
      onKeyDown=${onKey} onMouseLeave=${() => setCurrent(-1)} onBlur=${() => setCurrent(-1)}>
    <div class="heat-row">${maps.map(({ field, title, note, tone }, n) => html`<figure key=${field} class="heat">
      <figcaption><span class=${`key key-${tone}`}></span>${title} <span class="note">${note}</span></figcaption>
      <div><canvas ref=${(element) => { canvases.current[n] = element; }} role="img"
        aria-label=${`${title} of ${gpus.length} GPUs, ${unknown[n]} of them unknown`}
        onMouseMove=${(event) => setCurrent(at(event))} onClick=${(event) => at(event) >= 0 && open(placed.cells[at(event)].gpu)}></canvas></div>
    </figure>`)}</div>
    <div class="heat-foot"><p class="heat-said" aria-live="polite">${chosen ? html`<strong>${gpuName(chosen)}</strong> ${chosen.name}: ${maps.map(({ field, title }) =>
      `${title} ${percent(chosen.old ? null : chosen[field])}`).join(", ")}${chosen.old ? " (no newer sample)" : ""}` : "Point at a GPU, or use the arrow keys."}</p>
      <${Legend} theme=${theme} /></div>
  </div>`;
}

function Legend() {
  return html`<div class="legend" aria-hidden="true"><span>0 %</span><span class="legend-ramp"></span><span>100 %</span><span class="legend-unknown"></span><span>unknown</span></div>`;
}
