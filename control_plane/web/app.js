// The frame around the pages: where one is, whether what is shown is live, light or dark, and the key.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { connection, keys } from "./api.js";
import { html } from "./html.js";
import { Alerts } from "./pages/alerts.js";
import { Fleet } from "./pages/fleet.js";
import { Gpu } from "./pages/gpu.js";
import { Money } from "./pages/money.js";
import { Node } from "./pages/node.js";
import { Nodes } from "./pages/nodes.js";
import { Recommendations } from "./pages/recommendations.js";
import { Rollouts } from "./pages/rollouts.js";
import { Server } from "./pages/server.js";
import { Servers } from "./pages/servers.js";
import { Slos } from "./pages/slos.js";
import { Empty, Heading } from "./parts.js";

const PAGES = [
  ["fleet", "Fleet", Fleet], ["nodes", "Nodes", Nodes], ["servers", "Servers", Servers],
  ["money", "Money", Money], ["slos", "SLOs", Slos], ["alerts", "Alerts", Alerts], ["recommendations", "Recommendations", Recommendations], ["rollouts", "Rollouts", Rollouts],
];
const ONE = { nodes: Node, gpus: Gpu, servers: Server };

/** #/nodes/alpha?x → ["nodes", "alpha"]. */
const place = () => location.hash.replace(/^#\/?/, "").split("?")[0].split("/").filter(Boolean).map(decodeURIComponent);

function usePlace() {
  const [at, setAt] = useState(place());
  useEffect(() => {
    const moved = () => {
      document.body.dataset.moved = "yes";
      setAt(place());
      scrollTo(0, 0);
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return at;
}

const SAYS = { asking: "Asking", live: "Live", lost: "Not connected", locked: "Key needed" };
function Connection() {
  const [state, setState] = useState(connection.state);
  useEffect(() => {
    const changed = () => setState(connection.state);
    connection.addEventListener("change", changed);
    return () => connection.removeEventListener("change", changed);
  }, []);
  return html`<span class=${`connection connection-${state}`} role="status">${SAYS[state]}</span>`;
}

function Theme() {
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const [isDark, setDark] = useState(dark());
  const change = () => {
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("optiinfra-theme", document.documentElement.dataset.theme);
    setDark(!isDark);
  };
  return html`<button type="button" class="quiet" onClick=${change}>${isDark ? "Light" : "Dark"}</button>`;
}

function Key() {
  const dialog = useRef(null);
  const field = useRef(null);
  const [has, setHas] = useState(Boolean(keys.get()));
  useEffect(() => {
    const changed = () => connection.state === "locked" && !dialog.current.open && dialog.current.showModal();
    connection.addEventListener("change", changed);
    return () => connection.removeEventListener("change", changed);
  }, []);
  const take = () => {
    if (field.current.value.trim()) keys.set(field.current.value.trim());
    field.current.value = "";
    setHas(Boolean(keys.get()));
    dialog.current.close();
    dispatchEvent(new Event("optiinfra-key"));
  };
  const forget = () => {
    keys.forget();
    setHas(false);
    dialog.current.close();
    dispatchEvent(new Event("optiinfra-key"));
  };
  return html`<button type="button" class="quiet" onClick=${() => dialog.current.showModal()}>${has ? "Key ✓" : "Key"}</button>
    <dialog ref=${dialog} aria-labelledby="key-title">
      <form method="dialog" onSubmit=${(event) => { event.preventDefault(); take(); }}>
        <h2 id="key-title">API key</h2>
        <p>Where keys are on, the control plane answers only to one: <code>optiinfra keys create --name me --scopes read</code>. It stays in this tab and is forgotten with it.</p>
        <label for="key">Key</label><input id="key" ref=${field} type="password" autocomplete="off" spellcheck="false" />
        <div class="buttons"><button type="submit" class="strong">Use it</button>${has ? html`<button type="button" onClick=${forget}>Forget it</button>` : null}<button type="button" onClick=${() => dialog.current.close()}>Close</button></div>
      </form>
    </dialog>`;
}

function App() {
  const [name = "fleet", id] = usePlace();
  const page = PAGES.find(([key]) => key === name)?.[2];
  const One = id === undefined ? null : ONE[name];
  const inside = name === "gpus" ? "fleet" : name;
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("h1")?.focus(); }}>To the page</a>
    <header class="top">
      <a class="brand" href="#/fleet"><img src="/dashboard/assets/icon.svg" alt="" width="26" height="26" />OptiInfra</a>
      <nav aria-label="Pages">${PAGES.map(([key, title]) => html`<a key=${key} href=${`#/${key}`} aria-current=${key === inside ? "page" : undefined}>${title}</a>`)}</nav>
      <div class="top-end"><${Connection} /><${Theme} /><${Key} /></div>
    </header>
    <main id="main">${One ? html`<${One} key=${id} id=${id} />` : page && id === undefined ? html`<${page} />` : html`<${Heading} title="Nothing here" /><${Empty} title="There is no such page"><p><a href="#/fleet">To the fleet</a></p><//>`}</main>
    <footer><span>OptiInfra ${document.querySelector("meta[name=optiinfra-version]").content}</span><a href="/analysis/report">Report</a><a href="/docs">API</a></footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
