// Changes on their way: the split of the traffic, what happened so far, and the button that takes one back.
import { useRef, useState } from "preact/hooks";
import { answers, ask, url, useAnswer } from "../api.js";
import { count, isKnown, moment, percent, words } from "../format.js";
import { html } from "../html.js";
import { Empty, Heading, Panel, Shown, State, Table } from "../parts.js";

const ENDED = new Set(["succeeded", "rolled_back", "refused"]);
const GOING_BACK = new Set(["rolling_back", "draining", "removing", ...ENDED]);
const TONE = { succeeded: "good", rolled_back: "bad", refused: "bad", rolling_back: "bad", draining: "bad", removing: "bad", paused: "warn", needs_human: "warn", awaiting_approval: "warn", taken_over: "warn" };

export function Rollouts() {
  const isThere = answers("/rollout/status");
  const now = useAnswer(isThere ? "/rollout/status" : null, { seconds: 2 });
  const past = useAnswer(isThere ? url("/rollout/history", { limit: 50 }) : null, { seconds: 15 });
  if (!isThere) return html`<${Heading} title="Rollouts" /><${Empty} title="This release rolls nothing out"></${Empty}>`;
  return html`<${Heading} title="Rollouts"><p class="sub">Steps that can be taken back. What is not known never moves one forward.</p><//>
    <${Shown} of=${now} empty=${html`<${Empty} title="Nothing is being rolled out"><p>Targets are named by whoever runs the control plane; then <code>POST /rollout/start</code>.</p><//>`}>${({ items }) => html`${items.map((one) => html`<${Rollout} key=${one.rollout_id} of=${one} again=${now.again} />`)}`}<//>
    <${Panel} id="past" title="Ended"><${Shown} of=${past} empty=${html`<${Empty} title="None has ended yet" />`}>${({ items }) => html`<${Table} caption="Rollouts that have ended" rows=${items.filter((one) => ENDED.has(one.state))} keyOf=${(one) => one.rollout_id} columns=${[
      { title: "Target", cell: (one) => one.target },
      { title: "Came to", cell: (one) => html`<${State} of=${one.state} tone=${TONE[one.state]} />` },
      { title: "Because", cell: (one) => one.because },
      { title: "Begun", cell: (one) => html`<time datetime=${one.started_at}>${moment(one.started_at)}</time>` },
      { title: "Ended", cell: (one) => html`<time datetime=${one.ended_at}>${moment(one.ended_at)}</time>` },
    ]} />`}<//><//>`;
}

function Rollout({ of, again }) {
  const whole = useAnswer(`/rollout/${encodeURIComponent(of.rollout_id)}`, { seconds: 3 });
  const [problem, setProblem] = useState(null);
  const sure = useRef(null);
  const told = (path, body) => ask(path, { method: "POST", body }).then(() => { setProblem(null); again(); whole.again(); }, (error) => setProblem(error.detail || error.message));
  const one = (verb) => () => told(`/rollout/${encodeURIComponent(of.rollout_id)}/${verb}`, {});
  const stop = () => { sure.current.close(); told("/rollout/rollback", { rollout_id: of.rollout_id }); };
  return html`<section class="panel rollout" aria-label=${`Rollout of ${of.target}`}>
    <header class="panel-head"><h2>${of.target}</h2><${State} of=${of.state} tone=${TONE[of.state]} /><p class="note">${of.strategy.replace("_", "-")}, begun ${moment(of.started_at)}</p>
      <div class="panel-actions">
        ${of.state === "awaiting_approval" ? html`<button type="button" class="strong" onClick=${one("promote")}>Approve the next step</button>` : null}
        ${["paused", "needs_human", "taken_over"].includes(of.state) ? html`<button type="button" onClick=${one("resume")}>Go on</button>` : null}
        ${GOING_BACK.has(of.state) || of.state === "paused" ? null : html`<button type="button" onClick=${one("pause")}>Hold</button>`}
        ${GOING_BACK.has(of.state) ? null : html`<button type="button" class="danger stop" onClick=${() => sure.current.showModal()}>Stop and take back</button>`}
      </div></header>
    <p class="verdict">${of.because}</p>
    <${Split} of=${of} />
    <${Steps} of=${of} />
    ${problem ? html`<p role="alert" class="is-bad">${problem}</p>` : null}
    ${whole.data ? html`<${Notes} of=${whole.data.notes} />` : null}
    <dialog ref=${sure} aria-labelledby=${`sure-${of.rollout_id}`}><form method="dialog" onSubmit=${(event) => { event.preventDefault(); stop(); }}>
      <h2 id=${`sure-${of.rollout_id}`}>Take ${of.target} back?</h2>
      <p>All traffic goes to the version that served before, at once. The candidate is drained and removed.</p>
      <div class="buttons"><button type="submit" class="danger">Stop and take back</button><button type="button" onClick=${() => sure.current.close()}>Leave it</button></div></form></dialog>
  </section>`;
}

function Split({ of }) {
  const share = of.share_percent / 100;
  const { candidate_good: good, candidate_bad: bad, stable_good: sgood, stable_bad: sbad } = of.requests;
  const side = (title, g, b) => html`<div class="side"><p class="side-title">${title}</p><p>${isKnown(g) ? html`<b>${count(g + b)}</b> requests, <b class=${b > 0 ? "is-bad" : ""}>${count(b)}</b> bad` : html`<span class="unknown">unknown</span>`}</p></div>`;
  return html`<div class="split">
    ${side(html`Before <b>${percent(1 - share)}</b>`, sgood, sbad)}
    <span class="split-track" role="img" aria-label=${`${percent(share)} of the traffic to the candidate`}><span class="split-fill" style=${{ width: `${share * 100}%` }}></span></span>
    ${side(html`Candidate <b>${percent(share)}</b>`, good, bad)}
    ${of.share_seen ? null : html`<p class="note">The router has not been seen to do so yet.</p>`}</div>`;
}

const Steps = ({ of }) => html`<ol class="steps" aria-label="Steps">${of.steps_percent.map((step, n) => html`<li key=${n} class=${n < of.step ? "step-done" : n === of.step ? "step-now" : ""} aria-current=${n === of.step ? "step" : undefined}>${percent(step / 100)}</li>`)}</ol>`;

const Notes = ({ of }) => html`<details open><summary>What happened</summary><ol class="notes">${[...of].reverse().slice(0, 12).map((note) => html`<li key=${note.at + note.event}><time datetime=${note.at}>${moment(note.at).slice(11, 19)}</time> <b>${words(note.event)}</b> ${note.because}</li>`)}</ol></details>`;
