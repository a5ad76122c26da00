// The page: what is known comes in by the wire, and each part shows it.

import { Board } from "./board.js";
import { Controls } from "./controls.js";
import { by, el, keyed, number, say, seconds, set, uptime } from "./dom.js";
import { openHelp, openPartition } from "./drawer.js";
import { Edits } from "./edits.js";
import { done, Pipeline, why } from "./pipeline.js";
import { Settings } from "./settings.js";
import { Sound } from "./sound.js";
import { Timeline } from "./timeline.js";
import { Tour } from "./tour.js";
import { Wire } from "./wire.js";

const AMBER_MS = 3_000;
const STALE_MS = 10_000;
const SAY_MS = 10_000;
const POINTS = 120;

/** What is known, and when it was. */
class Model {
  board = { group: { state: "unknown", protocol: "", topic: "", generation: -1, members: 0 }, replicas: [], partitions: [], rebalances: [], timeline: [] };
  flow = { raw_rate: 0, events_rate: 0, stored_rate: 0, stored: 0, enricher_lag: 0, sink_lag: 0, delay_p50_ms: null, delay_p99_ms: null };
  around = { source: null, brokers: null, dead_letters: {}, alerts: [] };
  points = [];
  token = null;
  compose = "";
  grafana = "";
  run = null;
  #ts = Date.now();
  #at = performance.now();
  isHeard = false;
  #frozen = null;

  heard(ts) {
    this.isHeard = true;
    this.#ts = ts;
    this.#at = performance.now();
  }

  /** Milliseconds since the console was heard. */
  get silence() {
    return performance.now() - this.#at;
  }

  /** Milliseconds since the console heard of the group: from the broker, or from a sink. */
  get age() {
    const { looked_ms, heard_ms } = this.board.group;
    const latest = Math.max(looked_ms ?? 0, heard_ms ?? 0);
    return latest === 0 ? this.silence : Math.max(0, this.#ts - latest) + this.silence;
  }

  /** The console's clock; it stands while what is shown is old. */
  now() {
    const now = this.#ts + this.silence;
    if (!this.isStale) this.#frozen = null;
    else this.#frozen ??= now;
    return this.#frozen ?? now;
  }

  get isStale() {
    return this.isHeard && this.age > STALE_MS;
  }

  letter(name) {
    return this.board.replicas.find((replica) => replica.name === name)?.letter ?? "";
  }
}

const model = new Model();
const settings = new Settings();
const sound = new Sound();
const controls = new Controls(model);
const board = new Board(model, (partition) => openPartition(partition, model.board.group.topic), (replica) => controls.of(replica));
const timeline = new Timeline(model);
const edits = new Edits(settings, sound);
const pipeline = new Pipeline(model);
const tour = new Tour(model);

const TAKE = {
  hello({ control, compose, grafana, run }) {
    // Another console than the one that this page is of: everything counts anew.
    if (model.run !== null && model.run !== run) location.reload();
    model.run = run;
    model.token = control;
    model.compose = compose;
    model.grafana = grafana;
  },
  snapshot(snapshot) {
    model.board = snapshot.board;
    model.flow = snapshot.flow;
    model.around = snapshot.around;
    model.points = snapshot.points;
    edits.take({ ...snapshot.edits, seen: 0 });
  },
  group(view) {
    model.board = view;
  },
  rates({ board: { group, replicas, partitions }, flow, around, point }) {
    model.board = { ...model.board, group, replicas, partitions };
    model.flow = flow;
    model.around = around;
    if (point) model.points = [...model.points, point].slice(-POINTS);
  },
  edits(view) {
    edits.take(view);
  },
  alert(alerts) {
    announce(alerts.map(({ text }) => text).join("; ") || "nothing is wrong any more", true);
  },
  rebalance(rebalance) {
    sound.rebalance();
    announce(`${why(rebalance)}: ${done(rebalance)}`, true);
  },
};

let isDrawn = true;

function take(name, data, ts) {
  model.heard(ts);
  TAKE[name](data);
  if (name === "edits" || !isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(draw);
}

function draw() {
  isDrawn = true;
  head();
  if (model.isStale) return;
  board.show(settings.view);
  timeline.show();
  controls.show();
  pipeline.show();
  say(by("topic"), model.board.group.topic || "wikipedia-events");
  say(by("last"), moving() ?? told());
}

/** What moves now; null where nothing does. */
function moving() {
  const last = model.board.rebalances.at(-1);
  if (!last || last.is_over) return null;
  const silent = model.board.replicas.filter(({ state }) => state === "silent").map(({ name }) => name);
  const missed = silent.length > 0 ? `${silent.join(", ")} silent, and the group has not noticed yet` : "partitions move";
  const still = model.board.partitions.filter(({ still_since_ms }) => still_since_ms !== null).length;
  return `Rebalancing: ${last.causes.length > 0 ? why(last) : missed}; ${still} partitions stand still.`;
}

/** The last rebalance that is over. */
function told() {
  const last = model.board.rebalances.at(-1);
  return last ? `Last rebalance: ${why(last)}; ${done(last)}` : "No rebalance yet.";
}

/** What stands in the head of the page, and how old it is. */
function head() {
  const { flow } = model;
  const figures = [
    ["stored", `${number(flow.stored_rate, 1)} edits/s`],
    ["behind live", flow.delay_p50_ms === null ? "\u2013" : seconds(flow.delay_p50_ms)],
    ["99 in 100", flow.delay_p99_ms === null ? "\u2013" : seconds(flow.delay_p99_ms)],
    ["lag", number(flow.sink_lag)],
  ];
  keyed(by("figures"), figures, ([name]) => name, ([name]) => el("div", {}, el("dt", {}, name), el("dd")),
    (row, [, value]) => say(row.lastElementChild, value));
  alerts();
  const { group } = model.board;
  const told = [stream(), brokers(), group.looked_ms ? `group ${group.state.replaceAll("_", " ")}, ${group.members} members, ${group.protocol || "no"} protocol, generation ${group.generation}` : "the broker has not answered yet"].filter(Boolean).join("; ");
  const age = model.isHeard ? model.age : 0;
  // Sinks may go on telling while the broker is silent: each truth has an age of its own.
  const asked = model.isHeard && group.looked_ms ? Math.max(0, model.now() - group.looked_ms) : 0;
  const isOld = Math.max(age, asked) > AMBER_MS;
  say(by("sources"), age > AMBER_MS ? `${told}; this is ${seconds(age)} old`
    : asked > AMBER_MS ? `${told}; the broker said so ${seconds(asked)} ago; the sinks: live` : `${told}; live`);
  by("sources").classList.toggle("is-old", isOld);
  document.body.classList.toggle("is-stale", model.isStale);
  by("banner").hidden = !model.isStale;
  if (model.isStale) {
    const cause = model.silence > STALE_MS ? "the console does not answer" : "neither the broker nor a sink says anything";
    say(by("banner"), `Last known state, ${Math.floor(model.age / 1000)} s old: ${cause}.`);
  }
}

/** The stream, as ingest says; null before it said anything. */
function stream() {
  const { source } = model.around;
  if (!source) return null;
  if (source.connected_at_ms === null) return `${source.host} not connected`;
  return `${source.host} connected for ${uptime(model.now() - source.connected_at_ms)}`;
}

function brokers() {
  const { brokers: found } = model.around;
  return found && `brokers ${found.up} of ${found.known}`;
}

function alerts() {
  const { alerts: told } = model.around;
  keyed(by("alerts"), told, ({ what, text }) => `${what} ${text}`, ({ text }) => el("li", {}, `\u26a0 ${text}`), () => {});
}

let said = 0;
/** One polite line at most every ten seconds, and at every rebalance. */
function announce(text, isUrgent) {
  if (!isUrgent && performance.now() - said < SAY_MS) return;
  said = performance.now();
  say(by("announce"), text);
}

function pause() {
  settings.isPaused = !settings.isPaused;
  set(by("pause"), "aria-pressed", settings.isPaused);
  say(by("pause"), settings.isPaused ? "Go on" : "Pause edits");
}

function choose(view) {
  settings.setView(view);
  for (const choice of document.querySelectorAll("input[name=view]")) choice.checked = choice.value === view;
  draw();
}

const KEYS = {
  " ": pause,
  b: () => choose("board"),
  p: () => choose("partitions"),
  t: () => choose("table"),
  "/": () => by("filter-title").focus(),
  "?": () => openHelp(settings),
};

function listen() {
  by("pause").addEventListener("click", pause);
  by("sound").addEventListener("click", () => {
    const isOn = sound.toggle();
    set(by("sound"), "aria-pressed", isOn);
    say(by("sound"), isOn ? "Sound on" : "Sound off");
  });
  by("theme").value = settings.theme;
  by("theme").addEventListener("change", ({ target }) => { settings.theme = target.value; });
  by("help-open").addEventListener("click", () => openHelp(settings));
  by("views").addEventListener("change", ({ target }) => choose(target.value));
  addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, select, textarea, button, a, summary, dialog");
    const act = KEYS[event.key];
    if (!act || !settings.hasKeys || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  const cards = by("board");
  cards.addEventListener("pointerover", ({ target }) => edits.dim(target.closest(".card")?.querySelector(".chip")?.textContent ?? null));
  cards.addEventListener("pointerleave", () => edits.dim(null));
}

listen();
choose(settings.view);
new Wire(take);
setInterval(() => {
  head();
  if (!model.isStale) board.show(settings.view);
}, 250);
setInterval(() => {
  edits.tick();
  tour.tick();
  if (!model.isStale) timeline.show();
  announce(`${number(model.flow.stored_rate, 0)} edits a second, lag ${number(model.flow.sink_lag)}`, false);
}, 1000);
head();
