// A guided tour of five steps; each waits for what the visitor does.

import { GONE } from "./controls.js";
import { by, el } from "./dom.js";

const here = (board) => board.replicas.filter(({ state }) => !GONE.includes(state));

/** Steps: what to do, and when it is done; `start` is the board as the step began. */
const STEPS = [
  {
    text: "Watch: every edit of Wikipedia lies in one partition, and the sink that owns the partition stores it. Its letter is on the circle.",
    isDone: (model, start) => model.flow.stored >= start.flow.stored + 20,
  },
  {
    text: "Add a sink. Partitions leave the others and arrive at the new one; those that stay never stop.",
    isDone: (model, start) => here(model.board).filter(({ state }) => state === "stable").length > here(start.board).length,
  },
  {
    text: "Stop one in order (the button on its card). It says goodbye, so its partitions move within a moment.",
    isDone: (model, start) => left(model, "left") > left(start, "left"),
  },
  {
    text: "Kill one. It says nothing: the group has to miss it first. See how long its partitions stand still.",
    isDone: (model, start) => left(model, "lost") > left(start, "lost"),
  },
  {
    text: "Add sinks until there are more than partitions. The last ones stand by: a partition has one owner.",
    isDone: (model) => model.board.replicas.some(({ state }) => state === "standby"),
  },
];

/** How often the log names such an end. */
function left(model, what) {
  return model.board.rebalances.flatMap(({ causes }) => causes).filter((cause) => cause.what === what).length;
}

export class Tour {
  #model;
  #step = -1;
  #start = null;
  #place = by("tour");

  constructor(model) {
    this.#model = model;
    by("tour-start").addEventListener("click", () => this.#go(0));
  }

  #go(step) {
    this.#step = step;
    this.#start = structuredClone({ board: this.#model.board, flow: this.#model.flow });
    this.#place.hidden = step < 0;
    if (step < 0) return;
    const isOver = step >= STEPS.length;
    const text = isOver ? "That was it: scale, stop and kill as you like. Nothing is lost, and nothing is stored twice." : STEPS[step].text;
    this.#place.replaceChildren(
      el("p", { role: "status" }, el("b", {}, isOver ? "Done. " : `${step + 1} of ${STEPS.length}. `), text),
      isOver ? null : el("button", { type: "button", onclick: () => this.#go(step + 1) }, "Skip"),
      el("button", { type: "button", onclick: () => this.#go(-1) }, "End the tour"));
  }

  tick() {
    if (this.#step < 0 || this.#step >= STEPS.length) return;
    if (STEPS[this.#step].isDone(this.#model, this.#start)) this.#go(this.#step + 1);
  }
}
