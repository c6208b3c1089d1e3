// Colours out of the style sheet, so that canvases follow light and dark as the rest of the page does.
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The ramp of heat maps: 0 is nearly the background, 1 the strongest; equal steps look equal, also to the colour-blind. */
export function ramp() {
  const stops = [0, 1, 2, 3, 4].map((n) => parse(colour(`heat-${n}`)));
  return (ratio) => {
    const at = Math.min(Math.max(ratio, 0), 1) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = stops[low].map((v, n) => Math.round(v + (stops[low + 1][n] - v) * (at - low)));
    return { css: `rgb(${mixed.join(" ")})`, isDark: 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2] < 140 };
  };
}

/** Calls `changed` when light becomes dark or back; gives what ends that. */
export function onTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = new MutationObserver(changed);
  system.addEventListener("change", changed);
  chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  return () => {
    system.removeEventListener("change", changed);
    chosen.disconnect();
  };
}
