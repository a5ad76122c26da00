// Ten minutes of ownership, a row a partition.

import { by, clock, keyed, number, say, set, slot, svg } from "./dom.js";

/** How much is shown, in minutes: the least that holds everything that is known. */
const LENGTHS = [1, 2, 5, 10];
const ROW = 22;
const LEFT = 34;
const FOOT = 18;

/** A stretch narrower than this has no room for its letter. */
const LETTER_PX = 14;

export class Timeline {
  #model;
  #place = by("timeline");
  #rows = this.#place.appendChild(svg("g"));
  #marks = this.#place.appendChild(svg("g"));

  constructor(model) {
    this.#model = model;
  }

  show() {
    const { timeline } = this.#model.board;
    const width = Math.max(280, Math.round(this.#place.clientWidth || 800));
    const now = this.#model.now();
    const first = Math.min(now, ...timeline.map(({ spans }) => spans[0]?.from_ms ?? now));
    const minutes = LENGTHS.find((length) => first > now - length * 60_000) ?? LENGTHS.at(-1);
    const length = minutes * 60_000;
    say(by("timeline-title"), minutes === 1 ? "The last minute" : `The last ${minutes} minutes`);
    const height = timeline.length * ROW + FOOT;
    set(this.#place, "viewBox", `0 0 ${width} ${height}`);
    const x = (at) => LEFT + Math.max(0, (at - (now - length)) / length) * (width - LEFT);
    keyed(this.#rows, timeline, (row) => row.partition,
      (row) => svg("g", {}, svg("text", { x: 0, class: "soft" }, `p${row.partition}`), svg("g")), (group, row) => {
        const at = timeline.indexOf(row);
        set(group, "transform", `translate(0 ${at * ROW})`);
        set(group.firstElementChild, "y", ROW / 2 + 4);
        this.#spans(group.lastElementChild, row.spans, x, [now - length, now]);
      });
    this.#axis(x, now, minutes, height);
    say(by("timeline-text"), this.#told(timeline));
  }

  #spans(group, spans, x, [from, now]) {
    const stretches = spans.map((span, at) => ({ ...span, until: spans[at + 1]?.from_ms ?? now, at }))
      .filter((span) => span.until > from);
    keyed(group, stretches, (span) => `${span.from_ms}-${span.at}`, () => svg("g", {}, svg("rect", { y: 2, height: ROW - 4, rx: 3 }), svg("text", { y: ROW / 2 + 4 })), (part, span) => {
      const [left, right] = [x(span.from_ms), x(span.until)];
      const [bar, text] = part.children;
      const kind = span.state === "disputed" ? "disputed" : span.owner ? "" : span.state === "unowned" ? "none" : "gap";
      set(part, "class", span.letter ? slot(span.letter) : "slot-none");
      set(bar, "class", kind);
      set(bar, "x", left.toFixed(1));
      // A pause of a moment is still seen.
      set(bar, "width", Math.max(kind === "gap" ? 2 : 0.5, right - left).toFixed(1));
      set(text, "class", "on");
      set(text, "x", (left + 5).toFixed(1));
      say(text, span.letter && right - left > LETTER_PX ? span.letter : "");
    });
  }

  #axis(x, now, minutes, height) {
    const parts = [1, 0.75, 0.5, 0.25, 0];
    keyed(this.#marks, parts, (part) => part, () => svg("text", { class: "soft" }), (mark, part) => {
      const seconds = Math.round(part * minutes * 60);
      set(mark, "x", x(now - seconds * 1000).toFixed(1));
      set(mark, "y", height - 4);
      set(mark, "text-anchor", part === 0 ? "end" : part === 1 ? "start" : "middle");
      const text = seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
      say(mark, part === 0 ? "now" : `\u2212${text}`);
    });
  }

  #told(timeline) {
    return timeline.map(({ partition, spans }) => {
      const last = spans.at(-1);
      const owner = last?.owner ?? "nobody";
      return `Partition ${partition}: ${owner} since ${last ? clock(last.from_ms) : "the start"}, ${number(spans.length)} stretches`;
    }).join("; ");
  }
}
