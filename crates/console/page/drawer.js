// A partition's last records, and the page's help.

import { by, clock, el } from "./dom.js";

function close(dialog) {
  return el("button", { type: "button", onclick: () => dialog.close() }, "Close");
}

/** Shows the last records of a partition. */
export async function openPartition(partition, topic) {
  const dialog = by("drawer");
  const command = `wiki tail --topic ${topic} --partition ${partition} --format offsets`;
  const list = el("div", { class: "records", tabindex: 0, role: "region", "aria-label": "Records" }, "asking\u2026");
  dialog.replaceChildren(
    el("div", { class: "bar" }, el("h2", { id: "drawer-title" }, `Partition ${partition}: its last records`), close(dialog)),
    el("p", { class: "hint" }, "Kafka keeps records in a partition in order, each at its offset. In a terminal: ", el("code", {}, command)), list);
  dialog.showModal();
  try {
    const answer = await fetch(`api/partitions/${partition}/records`);
    const records = (await answer.json()).reverse();
    list.replaceChildren(...records.map(record));
    if (records.length === 0) list.replaceChildren("none was read yet");
  } catch {
    list.replaceChildren("The console does not answer; open this again when it does.");
  }
}

function record({ offset, at_ms, key, headers, value }) {
  const head = headers.map(([name, text]) => `${name}: ${text}`).join("\n");
  return el("details", {}, el("summary", {}, `offset ${offset}, ${clock(at_ms)}, key ${key}`), el("pre", {}, `${head}\n\n${value}`));
}

const HELP = [
  ["Sink", "a program of the consumer group that stores edits in the table. Each has a letter, a colour and a pattern."],
  ["Partition", "a part of the topic. Kafka gives each to exactly one sink, so no edit is stored twice."],
  ["Rebalance", "a sink comes or goes, and partitions move. One that moves stands still for a moment: its tile is hatched and counts."],
  ["Disputed", "two are said to own a partition. The table still takes each edit once: the older owner is fenced."],
  ["Lag", "records that are in the topic and not yet in the table."],
  ["Two truths", "sinks say each second what they own, and the broker is asked each second. Where they differ the page says so."],
];
const KEYS = [["Space", "pause the edits"], ["b  p  t", "board, by partition, table"], ["/", "filter by title"], ["?", "this help"]];

/** Shows what the words on the page mean. */
export function openHelp(settings) {
  const dialog = by("help");
  const pairs = (list) => el("dl", {}, ...list.flatMap(([name, text]) => [el("dt", {}, el("b", {}, name)), el("dd", {}, text)]));
  const keys = el("input", { type: "checkbox", checked: settings.hasKeys, onchange: ({ target }) => { settings.hasKeys = target.checked; } });
  dialog.replaceChildren(
    el("div", { class: "bar" }, el("h2", { id: "help-title" }, "What you see"), close(dialog)),
    pairs(HELP), el("h3", {}, "Keys"), pairs(KEYS), el("label", {}, keys, " single keys act"));
  dialog.showModal();
}
