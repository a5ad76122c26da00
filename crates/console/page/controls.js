// What can be done to the pipeline: by this page in the demo, elsewhere as the exact command to copy.

import { by, el, say, set } from "./dom.js";

const PROTOCOLS = ["eager", "cooperative", "consumer"];
/** Sinks that run no more. */
export const GONE = ["left", "lost"];
/** How long a comparison waits for the group to come to rest. */
const REST_MS = 30_000;

/** The command that does the same under compose; `files` are those that the stack was started with. */
function command(action, sinks, files) {
  const compose = files ? `COMPOSE_FILE=${files} docker compose` : "docker compose";
  switch (action.action) {
    case "add": return `${compose} up -d --no-recreate --scale sink=${sinks + 1}`;
    case "stop": return `${compose} up -d --no-recreate --scale sink=${Math.max(0, sinks - 1)}`;
    case "kill": return `docker kill wikipedia-events-${action.sink}`;
    case "slow": return `docker kill --signal USR1 wikipedia-events-${action.sink}`;
    default: return `WIKI_REBALANCE=${action.protocol} ${compose} up -d --scale sink=${sinks}`;
  }
}

export class Controls {
  #model;
  #told = el("p", { class: "command", hidden: true });
  #isComparing = false;

  constructor(model) {
    this.#model = model;
    this.#build();
  }

  #build() {
    const choices = PROTOCOLS.map((protocol) => el("label", {}, el("input", {
      type: "radio", name: "protocol", value: protocol, onchange: () => this.act({ action: "protocol", protocol }),
    }), ` ${protocol}`));
    by("controls").append(
      el("button", { type: "button", id: "add-sink", onclick: () => this.act({ action: "add" }) }, "+ add a sink"),
      el("button", { type: "button", id: "compare-all", hidden: true, onclick: () => this.#compareAll() }, "Compare the three protocols"),
      el("fieldset", { class: "choices" }, el("legend", { class: "hidden" }, "Rebalancing protocol"), "protocol:", ...choices),
      this.#told);
  }

  /** The buttons of a sink's card. */
  of(replica) {
    if ([...GONE, "unheard"].includes(replica.state)) return [];
    const act = (name, label) => ({ name, label, run: () => this.act({ action: name, sink: replica.name }) });
    return [act("stop", "stop"), act("kill", "kill"), act("slow", replica.state === "slow" ? "full speed" : "slow down")];
  }

  show() {
    set(by("compare-all"), "hidden", this.#model.token ? null : "");
    for (const choice of by("controls").querySelectorAll("input")) choice.checked = choice.value === this.#model.board.group.protocol;
  }

  /** Does it, or shows the command that does. */
  async act(action) {
    if (!this.#model.token) {
      const living = this.#model.board.replicas.filter(({ state }) => !GONE.includes(state)).length;
      const text = command(action, living, this.#model.compose);
      this.#say("In a terminal, where the stack was started:", text);
      return false;
    }
    try {
      const answer = await fetch("api/control", {
        method: "POST",
        headers: { "content-type": "application/json", "x-wiki-control": this.#model.token },
        body: JSON.stringify(action),
      });
      const { done, error } = await answer.json();
      this.#say(done ?? error);
      return answer.ok;
    } catch {
      this.#say("The console does not answer; try again when it does.");
      return false;
    }
  }

  #say(text, code) {
    this.#told.hidden = false;
    this.#told.replaceChildren(el("span", { role: "status" }, text));
    if (!code) return;
    const copy = el("button", { type: "button", onclick: async () => {
      await navigator.clipboard?.writeText(code);
      say(copy, "copied");
    } }, "Copy");
    this.#told.append(el("code", {}, code), copy);
  }

  /** One sink more and one less under each protocol; the table beneath the log shows what it cost. */
  async #compareAll() {
    if (this.#isComparing) return;
    this.#isComparing = true;
    set(by("compare-all"), "disabled", "");
    try {
      for (const protocol of PROTOCOLS) {
        await this.act({ action: "protocol", protocol });
        await this.#rest(() => this.#model.board.group.protocol === protocol);
        // A name that is free is given again, also while its last bearer's card is still shown.
        const before = this.#model.board.replicas.filter(({ state }) => !GONE.includes(state)).map(({ name }) => name);
        await this.act({ action: "add" });
        const added = () => this.#model.board.replicas.find(({ name, state }) => !before.includes(name) && state === "stable");
        await this.#rest(() => Boolean(added()));
        const sink = added()?.name;
        if (!sink) continue;
        await this.act({ action: "stop", sink });
        await this.#rest(() => this.#model.board.replicas.find(({ name }) => name === sink)?.state === "left");
      }
      this.#say("Compared: the table stands beneath the log of rebalances.");
    } finally {
      this.#isComparing = false;
      set(by("compare-all"), "disabled", null);
    }
  }

  /** Waits until `holds`, and the log says that all has come to rest. */
  #rest(holds) {
    const deadline = performance.now() + REST_MS;
    return new Promise((resolve) => {
      const look = () => {
        const { rebalances, partitions } = this.#model.board;
        const isAtRest = rebalances.every(({ is_over }) => is_over) && partitions.every(({ state }) => state === "owned");
        if ((holds() && isAtRest) || performance.now() > deadline) resolve();
        else setTimeout(look, 200);
      };
      look();
    });
  }
}

