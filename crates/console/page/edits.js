// Edits as they are stored: circles and a list, each with the letter of the sink that stored it.

import { by, clock, el, isStill, keyed, number, say, set, slot, svg } from "./dom.js";

const ROWS = 12;
const BUBBLES = 24;
/** Of one event: more than these nobody can follow. */
const NEW_ROWS = 2;
const NEW_BUBBLES = 4;
const BUBBLE_MS = 12_000;
/** Wikis that are offered before any edit of them was seen. */
const FIRST_WIKIS = ["enwiki", "dewiki", "frwiki", "wikidatawiki", "commonswiki"];
const LEFT_TO_RIGHT = "auto";

/** Bytes changed, with their sign: never by colour alone. */
const signed = (delta) => (delta < 0 ? `\u2212${number(-delta)}` : `+${number(delta)}`);

/** The language of a wiki's titles: its domain's first part, where that is one. */
function language(domain) {
  const first = domain.split(".")[0];
  return /^[a-z]{2,3}(-[a-z]+)*$/.test(first) && first !== "www" ? first : null;
}

/** Domains of Wikimedia's wikis: a link leads nowhere else, whatever an event says. */
const WIKIMEDIA =
  /^([a-z0-9-]+\.)*(wikipedia|wiktionary|wikibooks|wikinews|wikiquote|wikisource|wikiversity|wikivoyage|wikimedia|wikidata|wikifunctions|mediawiki)\.org$/i;

/** Where the edit can be seen; null where the domain is none of Wikimedia's. */
function link(edit) {
  if (!WIKIMEDIA.test(edit.domain) || edit.revision_new === null) return null;
  const query = edit.revision_old === null ? `oldid=${edit.revision_new}` : `diff=${edit.revision_new}&oldid=${edit.revision_old}`;
  return `https://${edit.domain}/w/index.php?${query}`;
}

export class Edits {
  #settings;
  #sound;
  #shown = [];
  #wikis = new Set(FIRST_WIKIS);
  #seen = 0;
  #passed = 0;
  #isHeld = false;
  /** Offset of the last edit of each partition. */
  #told = new Map();

  constructor(settings, sound) {
    this.#settings = settings;
    this.#sound = sound;
    const list = by("edits");
    const hold = (isHeld) => () => { this.#isHeld = isHeld; };
    list.addEventListener("pointerenter", hold(true));
    list.addEventListener("pointerleave", hold(false));
    list.addEventListener("focusin", hold(true));
    list.addEventListener("focusout", hold(false));
    this.#filters();
  }

  take({ seen, edits }) {
    for (const edit of edits) this.#wikis.add(edit.wiki);
    // A snapshot repeats what was told before.
    const fresh = edits.filter((edit) => edit.offset > (this.#told.get(edit.partition) ?? -1));
    for (const edit of fresh) this.#told.set(edit.partition, edit.offset);
    this.#seen += Math.max(seen, fresh.length);
    if (this.#settings.isPaused) return;
    const wanted = fresh.filter((edit) => this.#isWanted(edit));
    const shown = wanted.slice(-NEW_BUBBLES);
    this.#passed += shown.length;
    for (const edit of shown) {
      this.#sound.edit(edit.delta);
      if (!isStill() && !document.hidden) this.#bubble(edit);
    }
    if (!this.#isHeld) {
      // An empty list fills at once.
      const rows = wanted.slice(this.#shown.length < ROWS ? -ROWS : -NEW_ROWS);
      this.#shown = [...rows.reverse(), ...this.#shown].slice(0, ROWS);
      this.#list();
    }
  }

  /** What is said beneath the circles; once a second. */
  tick() {
    const paused = this.#settings.isPaused ? "Paused. " : "";
    say(by("edits-text"), `${paused}${number(this.#seen)} stored since this page was opened, ${number(this.#passed)} of them shown: `
      + "some of each moment, after your filter. Circles: area by bytes, solid registered, dashed temporary or address, dotted bot.");
    const select = by("filter-wiki");
    if (select.options.length !== this.#wikis.size + 1) {
      const names = ["all", ...[...this.#wikis].sort()];
      keyed(select, names, (name) => name, (name) => el("option", { value: name }, name), () => {});
      select.value = this.#settings.filter.wiki;
    }
  }

  #isWanted(edit) {
    const { wiki, bots, namespace, title, replica } = this.#settings.filter;
    return (wiki === "all" || edit.wiki === wiki)
      && (bots === "on" || edit.is_bot === (bots === "only"))
      && (namespace === "all" || (namespace === "articles") === (edit.namespace_id === 0))
      && (title === "" || edit.title.toLowerCase().includes(title.toLowerCase()))
      && (replica === "" || edit.letter === replica);
  }

  #list() {
    keyed(by("edits"), this.#shown, (edit) => `${edit.partition}-${edit.offset}`, (edit) => this.#row(edit), () => {});
  }

  #row(edit) {
    const target = link(edit);
    return el("li", {},
      el("time", { datetime: edit.timestamp }, clock(Date.parse(edit.timestamp))),
      el("span", { class: `chip ${slot(edit.letter)}`, title: `stored by ${edit.sink}, partition ${edit.partition}` }, edit.letter),
      el("span", { class: "title" },
        el("bdi", { dir: LEFT_TO_RIGHT, lang: language(edit.domain) }, edit.title),
        el("small", {}, ` ${edit.wiki}, ${edit.user_kind}`)),
      el("span", { class: edit.delta < 0 ? "minus" : "plus" }, signed(edit.delta)),
      target ? el("a", { href: target, target: "_blank", rel: "noopener noreferrer", "aria-label": `diff of ${edit.title}` }, "diff") : el("span"));
  }

  #bubble(edit) {
    const place = by("bubbles");
    const radius = 9 + 4.2 * Math.log10(1 + Math.abs(edit.delta)) ** 1.4;
    // The place follows from the record: nothing jumps when the page is drawn anew.
    const spread = (edit.offset * 2654435761 + edit.partition * 40503) % 100_000;
    const { width, height } = place.getBoundingClientRect();
    set(place, "viewBox", `0 0 ${Math.round(width)} ${Math.round(height)}`);
    const within = (part, size) => radius + part * Math.max(0, size - 2 * radius);
    const x = within((spread % 1000) / 1000, width);
    const y = within(Math.floor(spread / 1000) / 100, height);
    const kind = edit.is_bot ? "is-bot" : edit.user_kind;
    const bubble = svg("g", { class: `${slot(edit.letter)} ${kind}`, transform: `translate(${x.toFixed(0)} ${y.toFixed(0)})`, "data-letter": edit.letter },
      svg("circle", { r: radius.toFixed(1) }),
      svg("text", {}, radius > 15 ? `${edit.letter} ${edit.delta < 0 ? "\u2212" : "+"}` : edit.letter));
    place.append(bubble);
    while (place.childElementCount > BUBBLES) place.firstElementChild.remove();
    setTimeout(() => bubble.remove(), BUBBLE_MS);
  }

  /** Only what one sink stored stays bright; null: all. */
  dim(letter) {
    for (const bubble of by("bubbles").children) {
      bubble.classList.toggle("is-dim", letter !== null && bubble.dataset.letter !== letter);
    }
    for (const row of by("edits").children) {
      row.classList.toggle("is-dim", letter !== null && row.querySelector(".chip").textContent !== letter);
    }
  }

  #filters() {
    const { filter } = this.#settings;
    const choose = (name, label, values) => el("label", {}, label, el("select", {
      id: `filter-${name}`, onchange: ({ target }) => this.#settings.setFilter(name, target.value),
    }, ...values.map((value) => el("option", { value, selected: filter[name] === value }, value))));
    const form = by("filters");
    form.append(
      choose("wiki", "wiki", ["all", ...[...this.#wikis].sort()]),
      choose("bots", "bots", ["on", "off", "only"]),
      choose("namespace", "pages", ["all", "articles", "others"]),
      el("label", {}, "title", el("input", {
        id: "filter-title", type: "search", size: 10, value: filter.title,
        oninput: ({ target }) => this.#settings.setFilter("title", target.value),
      })));
    form.addEventListener("submit", (event) => event.preventDefault());
    if (filter.wiki !== "all") this.#wikis.add(filter.wiki);
    set(form, "data-ready", "yes");
  }
}
