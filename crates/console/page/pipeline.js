// The way of an edit in figures, two charts, and the log of rebalances.

import { by, clock, el, keyed, length, number, say, seconds, set, svg } from "./dom.js";

const LENGTH_MS = 600_000;
/** An edit should be in the table within this. */
const GOAL_MS = 5_000;
const LOG_ROWS = 12;
/** Panels of the dashboard `wiki-stream`. */
const PANELS = { "ingest \u2192 raw topic": 18, "enricher \u2192 edits topic": 17, "sinks \u2192 table": 23, "set aside": 7 };

/** Why a rebalance was, in words. */
export function why(rebalance) {
  const words = {
    joined: (who) => `${who} joined`,
    left: (who) => `${who} left`,
    lost: (who) => `${who} LOST`,
    protocol_changed: (who) => `protocol is now ${who}`,
    topic_changed: (who) => `the topic has ${who} partitions`,
  };
  return rebalance.causes.map(({ what, who }) => words[what](who)).join(", ") || "partitions moved";
}

/** What a rebalance did, in words. */
export function done(rebalance) {
  const names = (partitions) => partitions.map((partition) => `p${partition}`).join(" ");
  const moved = rebalance.moved.length > 0 ? `moved ${names(rebalance.moved)}` : "nothing moved";
  const kept = rebalance.moved.length > 0 && rebalance.kept.length > 0 ? `; kept ${names(rebalance.kept)}` : "";
  const longest = rebalance.longest ? `; longest pause ${length(rebalance.longest.milliseconds)} (p${rebalance.longest.partition})` : "";
  return `${moved}${kept}; ${length(rebalance.duration_ms)}${longest}`;
}

export class Pipeline {
  #model;

  constructor(model) {
    this.#model = model;
  }

  show() {
    this.#strip();
    this.#chart(by("rate-chart"), (point) => point.rate, null, (value) => `${number(value, 0)}/s`);
    this.#chart(by("delay-chart"), (point) => point.delay_ms, GOAL_MS, (value) => seconds(value));
    this.#log();
    this.#compare();
  }

  #strip() {
    const { flow, around } = this.#model;
    const reasons = Object.entries(around.dead_letters);
    const aside = reasons.reduce((sum, [, count]) => sum + count, 0);
    const steps = [
      ["ingest \u2192 raw topic", `${number(flow.raw_rate, 0)}/s`, "from the stream"],
      ["enricher \u2192 edits topic", `${number(flow.events_rate, 0)}/s`, `lag ${number(flow.enricher_lag)}`],
      ["sinks \u2192 table", `${number(flow.stored_rate, 1)}/s`, `lag ${number(flow.sink_lag)}; ${number(flow.stored)} so far`],
      ["set aside", number(aside), reasons.map(([reason, count]) => `${reason} ${number(count)}`).join(", ") || "no dead letters"],
    ];
    const key = ([name]) => `${name} ${this.#model.grafana}`;
    keyed(by("strip"), steps, key, ([name]) => el("li", {}, el("small", {}, this.#linked(name)), el("b"), el("small")), (step, [, big, small]) => {
      say(step.children[1], big);
      say(step.children[2], small);
    });
  }

  /** A step's name; where there is Grafana, a link to its panel. */
  #linked(name) {
    const { grafana } = this.#model;
    if (!/^https?:\/\//.test(grafana)) return name;
    const href = `${grafana.replace(/\/$/, "")}/d/wiki-stream?viewPanel=${PANELS[name]}`;
    return el("a", { href, target: "_blank", rel: "noopener noreferrer" }, name);
  }

  #chart(place, value, goal, text) {
    const now = this.#model.now();
    const points = this.#model.points.map((point) => [point.at_ms, value(point)]).filter(([, height]) => height !== null);
    const most = Math.max(1, goal ? goal * 1.2 : 0, ...points.map(([, height]) => height));
    const x = (at) => (300 * (1 - (now - at) / LENGTH_MS)).toFixed(1);
    const y = (height) => (66 - 58 * (height / most)).toFixed(1);
    set(place, "viewBox", "0 0 300 70");
    set(place, "preserveAspectRatio", "none");
    if (place.childElementCount === 0) place.append(svg("path"), svg("line"), svg("title"));
    const [path, line, title] = place.children;
    set(path, "d", points.map(([at, height], index) => `${index === 0 ? "M" : "L"}${x(at)} ${y(height)}`).join(""));
    set(line, "x1", 0);
    set(line, "x2", goal ? 300 : 0);
    set(line, "y1", y(goal ?? 0));
    set(line, "y2", y(goal ?? 0));
    const last = points.at(-1)?.[1];
    const told = last === undefined ? "no figures yet" : `now ${text(last)}, at most ${text(Math.max(...points.map(([, height]) => height)))}`;
    say(title, told);
    set(place, "aria-label", told);
    const caption = place.parentElement.querySelector("figcaption");
    caption.dataset.text ??= caption.textContent;
    say(caption, `${caption.dataset.text}: ${told}`);
  }

  #log() {
    const latest = this.#model.board.rebalances.slice(-LOG_ROWS).reverse();
    if (latest.length === 0) {
      keyed(by("log"), ["none"], (name) => name, () => el("li", {}, "none yet"), () => {});
      return;
    }
    keyed(by("log"), latest, (rebalance) => rebalance.id, () => el("li", {}, el("time"), " ", el("b"), " ", el("span")), (row, rebalance) => {
      const [time, cause, text] = row.children;
      say(time, clock(rebalance.began_ms));
      say(cause, why(rebalance));
      set(cause, "class", rebalance.causes.some(({ what }) => what === "lost") ? "lost" : null);
      say(text, `${rebalance.is_over ? "" : "going on: "}${done(rebalance)} (${rebalance.protocol || "?"})`);
      set(row, "data-over", rebalance.is_over);
    });
  }

  /** The protocols side by side, from the log: what a sink that comes or goes costs under each. */
  #compare() {
    const told = new Map();
    for (const rebalance of this.#model.board.rebalances) {
      const [cause, ...others] = rebalance.causes;
      const isOne = others.length === 0 && ["joined", "left"].includes(cause?.what);
      if (isOne && rebalance.is_over && rebalance.protocol) {
        told.set(rebalance.protocol, [...(told.get(rebalance.protocol) ?? []), rebalance]);
      }
    }
    const place = by("compare");
    if (told.size < 2) {
      place.replaceChildren();
      return;
    }
    const heads = ["Protocol", "Rebalances", "Longest pause", "Partitions stopped", "Until all is at rest"];
    const body = place.querySelector("tbody") ?? place.appendChild(el("table", {},
      el("caption", {}, "What one sink that joins or leaves costs at worst, by protocol (kills left out)"),
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody"))).querySelector("tbody");
    keyed(body, [...told].sort(), ([protocol]) => protocol, () => el("tr", {}, el("th", { scope: "row" }), ...heads.slice(1).map(() => el("td", { class: "number" }))), (row, [protocol, rebalances]) => {
      const worst = (value) => Math.max(...rebalances.map(value));
      const cells = [
        protocol, rebalances.length,
        length(worst((rebalance) => rebalance.longest?.milliseconds ?? 0)),
        worst((rebalance) => rebalance.pauses.length),
        length(worst((rebalance) => rebalance.duration_ms)),
      ];
      cells.forEach((text, at) => say(row.children[at], text));
    });
  }
}
