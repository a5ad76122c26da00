// The ownership board: a card a sink, a tile a partition; the same model by partition and as a table.

import { by, clock, el, isStill, keyed, number, say, seconds, set, slot, uptime } from "./dom.js";

const NOBODY = "\u0000nobody";
const MOVE_MS = 450;

const STATES = {
  joining: "joining",
  stable: "",
  standby: "standby: more sinks than partitions",
  slow: "slowed",
  silent: "silent",
  left: "left",
  lost: "lost",
  unheard: "says nothing to us",
};

/** What a tile says beneath its number. */
function words(partition, model) {
  switch (partition.state) {
    case "owned": return `lag ${number(partition.lag)}`;
    case "leaving": return partition.target ? `leaving to ${model.letter(partition.target)}` : "leaving";
    case "arriving": return "arriving";
    case "in_flight": return `stands still ${seconds(model.now() - (partition.still_since_ms ?? partition.since_ms))}`;
    case "disputed": return `disputed: ${partition.owners.map((name) => model.letter(name)).join(" and ")}`;
    default: return "nobody";
  }
}

/** The card that a tile lies on. */
function home(partition) {
  if (partition.owners.length > 0) return partition.owners[0];
  return partition.state === "arriving" && partition.target ? partition.target : NOBODY;
}

export class Board {
  #model;
  #place = by("board");
  #view = null;
  #open;
  #acts;

  /** `open(partition)` shows a partition's records; `acts(replica)` gives a card's buttons. */
  constructor(model, open, acts) {
    this.#model = model;
    this.#open = open;
    this.#acts = acts;
  }

  show(view) {
    if (view !== this.#view) {
      this.#place.replaceChildren();
      this.#view = view;
    }
    if (view === "board") this.#cards();
    else if (view === "partitions") this.#rows();
    else this.#table();
  }

  #cards() {
    const { replicas, partitions } = this.#model.board;
    const before = isStill() ? null : this.#places();
    const homeless = partitions.filter((partition) => home(partition) === NOBODY);
    const cards = [...replicas, { name: NOBODY, letter: "", state: homeless.length > 0 ? "busy" : "quiet" }];
    const tiles = this.#tiles(partitions);
    keyed(this.#place, cards, (card) => card.name, (card) => this.#card(card), (card, replica) => {
      const own = partitions.filter((partition) => home(partition) === replica.name);
      const list = card.querySelector(".tiles");
      const wanted = own.map((partition) => tiles.get(partition.partition));
      const is = [...list.children];
      if (wanted.length !== is.length || wanted.some((tile, at) => tile !== is[at])) list.replaceChildren(...wanted);
      this.#bringUp(card, replica, own);
    });
    if (before) this.#move(before, tiles);
  }

  #tiles(partitions) {
    const known = new Map([...this.#place.querySelectorAll(".tile")].map((tile) => [Number(tile.dataset.partition), tile]));
    return new Map(partitions.map((partition) => {
      const tile = known.get(partition.partition) ?? this.#tile(partition.partition);
      const letter = this.#model.letter(partition.owners[0] ?? partition.target);
      const flapping = partition.is_flapping ? ", flapping" : "";
      set(tile, "class", `tile ${partition.state} ${slot(letter)}`);
      say(tile.querySelector("small"), words(partition, this.#model) + flapping);
      set(tile, "data-state", partition.state);
      set(tile, "data-owners", partition.owners.join(","));
      return [partition.partition, tile];
    }));
  }

  #tile(partition) {
    const tile = el("button", { type: "button", "data-partition": partition, onclick: () => this.#open(partition) },
      el("b", {}, `p${partition}`), el("small"));
    return tile;
  }

  #card(replica) {
    if (replica.name === NOBODY) {
      return el("article", { class: "card nobody" },
        el("header", {}, el("h3", {}, "No owner"), el("span", { class: "state" })), el("div", { class: "tiles" }));
    }
    return el("article", { class: "card" },
      el("header", {}, el("span", { class: "chip" }), el("h3", {}, replica.name), el("span", { class: "state" })),
      el("dl"), el("div", { class: "tiles" }), el("p", { class: "trouble" }), el("div", { class: "acts" }));
  }

  #bringUp(card, replica, own) {
    const state = card.querySelector(".state");
    if (replica.name === NOBODY) {
      set(card, "class", `card nobody ${own.length > 0 ? "is-busy" : ""}`);
      say(state, own.length > 0 ? `${own.length} waiting` : "all partitions have one");
      return;
    }
    set(card, "class", `card ${replica.state} ${slot(replica.letter)}`);
    set(card, "data-replica", replica.name);
    set(card, "data-state", replica.state);
    say(card.querySelector(".chip"), replica.letter);
    const age = this.#model.now() - replica.heard_ms;
    say(state, replica.state === "silent" ? `silent for ${seconds(age)}` : STATES[replica.state]);
    say(card.querySelector(".trouble"), replica.trouble);
    const lag = own.reduce((sum, partition) => sum + partition.lag, 0);
    const figures = replica.started_ms === 0 ? [] : [
      ["edits/s", number(replica.rate, 1)],
      ["lag", number(lag)],
      ["buffer", `${number(replica.buffered)}/${number(replica.buffer_limit)}`],
      ["up", uptime(this.#model.now() - replica.started_ms)],
    ];
    keyed(card.querySelector("dl"), figures, ([name]) => name,
      ([name]) => el("div", {}, el("dt", {}, name), el("dd")),
      (row, [, value]) => say(row.lastElementChild, value));
    const acts = this.#acts(replica);
    keyed(card.querySelector(".acts"), acts, (act) => act.name,
      (act) => el("button", { type: "button", onclick: act.run }, act.label), (button, act) => {
        say(button, act.label);
        set(button, "aria-label", `${act.label} ${replica.name}`);
      });
  }

  #places() {
    return new Map([...this.#place.querySelectorAll(".tile")].map((tile) => [tile, tile.getBoundingClientRect()]));
  }

  #move(before, tiles) {
    for (const tile of tiles.values()) {
      const from = before.get(tile);
      if (!from) continue;
      const to = tile.getBoundingClientRect();
      const [x, y] = [from.left - to.left, from.top - to.top];
      if (Math.abs(x) + Math.abs(y) < 2) continue;
      tile.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "ease-in-out" });
    }
  }

  #rows() {
    const rows = this.#place.querySelector(".rows") ?? this.#place.appendChild(el("div", { class: "rows" }));
    keyed(rows, this.#model.board.partitions, (partition) => partition.partition, (partition) => el("div", { class: "row" },
      el("button", { type: "button", onclick: () => this.#open(partition.partition) }, `p${partition.partition}`),
      el("span", {}, el("span", { class: "chip" }), " ", el("span", { class: "owner" })), el("small")), (row, partition) => {
      const owner = partition.owners[0];
      const letter = this.#model.letter(owner);
      set(row.querySelector(".chip"), "class", `chip ${slot(letter)}`);
      say(row.querySelector(".chip"), letter || "\u2013");
      say(row.querySelector(".owner"), partition.owners.join(" and ") || "no owner");
      const to = partition.target ? `, to ${partition.target}` : "";
      const state = partition.state === "owned" ? "" : `${words(partition, this.#model)}${to}; `;
      const committed = partition.committed === null ? "none" : number(partition.committed);
      const margin = partition.committed === null ? "" : `, ${number(partition.committed - partition.start)} above retention`;
      say(row.querySelector("small"),
        `${state}lag ${number(partition.lag)}, end ${number(partition.end)}, committed ${committed}${margin}`);
      set(row, "data-partition", partition.partition);
      set(row, "data-state", partition.state);
      set(row, "data-owners", partition.owners.join(","));
    });
  }

  #table() {
    const heads = ["Partition", "Owner", "State", "Next owner", "Lag", "End", "Committed", "Since"];
    const body = this.#place.querySelector("tbody") ?? this.#place.appendChild(el("div", { class: "table-box", tabindex: 0, role: "region", "aria-label": "Partitions as a table" },
      el("table", {}, el("caption", {}, "Partitions and their owners, by the sinks' words and the broker's"),
        el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody")))).querySelector("tbody");
    keyed(body, this.#model.board.partitions, (partition) => partition.partition, () => el("tr", {},
      ...heads.map((_, at) => el(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : at > 3 && at < 7 ? { class: "number" } : {}))), (row, partition) => {
      const cells = [
        `p${partition.partition}`, partition.owners.join(" and ") || "none", words(partition, this.#model),
        partition.target ?? "", number(partition.lag), number(partition.end),
        partition.committed === null ? "" : number(partition.committed), clock(partition.since_ms),
      ];
      cells.forEach((text, at) => say(row.children[at], text));
      set(row, "data-partition", partition.partition);
      set(row, "data-state", partition.state);
      set(row, "data-owners", partition.owners.join(","));
    });
  }
}
