// Ten minutes of ownership, a row a partition.

import { by, clock, keyed, number, say, set, slot, svg } from "./dom.js";

const LENGTH_MS = 600_000;
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
    const height = timeline.length * ROW + FOOT;
    set(this.#place, "viewBox", `0 0 ${width} ${height}`);
    const x = (at) => LEFT + Math.max(0, (at - (now - LENGTH_MS)) / LENGTH_MS) * (width - LEFT);
    keyed(this.#rows, timeline, (row) => row.partition,
      (row) => svg("g", {}, svg("text", { x: 0, class: "soft" }, `p${row.partition}`), svg("g")), (group, row) => {
        const at = timeline.indexOf(row);
        set(group, "transform", `translate(0 ${at * ROW})`);
        set(group.firstElementChild, "y", ROW / 2 + 4);
        this.#spans(group.lastElementChild, row.spans, x, now);
      });
    this.#axis(x, now, height);
    say(by("timeline-text"), this.#told(timeline));
  }

  #spans(group, spans, x, now) {
    const stretches = spans.map((span, at) => ({ ...span, until: spans[at + 1]?.from_ms ?? now, at }))
      .filter((span) => span.until > now - LENGTH_MS);
    keyed(group, stretches, (span) => `${span.from_ms}-${span.at}`, () => svg("g", {}, svg("rect", { y: 2, height: ROW - 4, rx: 3 }), svg("text", { y: ROW / 2 + 4 })), (part, span) => {
      const [from, to] = [x(span.from_ms), x(span.until)];
      const [bar, text] = part.children;
      const kind = span.state === "disputed" ? "disputed" : span.owner ? "" : span.state === "unowned" ? "none" : "gap";
      set(part, "class", span.letter ? slot(span.letter) : "slot-none");
      set(bar, "class", kind);
      set(bar, "x", from.toFixed(1));
      // A pause of a moment is still seen.
      set(bar, "width", Math.max(kind === "gap" ? 2 : 0.5, to - from).toFixed(1));
      set(text, "class", "on");
      set(text, "x", (from + 5).toFixed(1));
      say(text, span.letter && to - from > LETTER_PX ? span.letter : "");
    });
  }

  #axis(x, now, height) {
    const minutes = [10, 8, 6, 4, 2, 0];
    keyed(this.#marks, minutes, (minute) => minute, () => svg("text", { class: "soft" }), (mark, minute) => {
      set(mark, "x", x(now - minute * 60_000).toFixed(1));
      set(mark, "y", height - 4);
      set(mark, "text-anchor", minute === 0 ? "end" : minute === 10 ? "start" : "middle");
      say(mark, minute === 0 ? "now" : `\u2212${minute} min`);
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
