// One stream for all tabs of this browser: a browser allows six connections to a server, and a stream holds one.
//
// The tab that holds the lock leads: it listens to the server and passes every event on. Where the lock goes, because
// its tab is closed or hidden for long, another tab takes over.

const CHANNEL = "wiki-console";
const HIDDEN_MS = 30_000;
const AGAIN_MS = 5_000;
const EVENTS = ["hello", "snapshot", "group", "rebalance", "rates", "edits", "alert", "bye"];

export class Wire {
  #channel = new BroadcastChannel(CHANNEL);
  #take;
  #seq = null;
  #hello = null;
  #source = null;
  #release = null;
  #isAsking = false;
  #hiding = null;
  #isAway = false;

  /** `take(name, data, ts)` gets every event, in order. */
  constructor(take) {
    this.#take = take;
    this.#channel.onmessage = ({ data }) => this.#overheard(data);
    addEventListener("pagehide", () => this.#stop());
    addEventListener("pageshow", (event) => event.persisted && this.#start());
    document.addEventListener("visibilitychange", () => this.#seen());
    this.#start();
  }

  #start() {
    this.#isAway = false;
    this.#channel.postMessage({ wants: "hello" });
    this.#ask();
    // Without locks (a page that is not from this machine and not over TLS) each tab listens for itself.
    if (!navigator.locks) return this.#listen();
    navigator.locks.request(CHANNEL, () => {
      if (this.#isAway) return undefined;
      this.#listen();
      return new Promise((release) => { this.#release = release; });
    });
  }

  #stop() {
    this.#isAway = true;
    this.#source?.close();
    this.#source = null;
    this.#release?.();
    this.#release = null;
  }

  #seen() {
    clearTimeout(this.#hiding);
    if (document.hidden) this.#hiding = setTimeout(() => this.#stop(), HIDDEN_MS);
    else if (this.#isAway) this.#start();
  }

  #listen() {
    const source = new EventSource("api/stream");
    this.#source = source;
    for (const name of EVENTS) {
      source.addEventListener(name, ({ data }) => {
        const event = { name, data: JSON.parse(data) };
        this.#channel.postMessage(event);
        this.#heard(event);
      });
    }
    // The browser comes again by itself, unless the server refused.
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
      setTimeout(() => source === this.#source && !this.#isAway && this.#listen(), AGAIN_MS);
    };
  }

  #overheard(message) {
    if (message.wants === "hello") {
      if (this.#source && this.#hello) this.#channel.postMessage({ name: "hello", data: this.#hello });
    } else if (!this.#source && !this.#isAway) {
      this.#heard(message);
    }
  }

  #heard({ name, data }) {
    if (name === "hello") {
      this.#hello = data;
      this.#take(name, data, data.ts);
      return;
    }
    if (name === "bye") return;
    if (name === "snapshot") {
      this.#seq = data.seq;
    } else {
      if (this.#seq !== null && data.seq <= this.#seq) return;
      // One is missing: everything is asked for anew.
      if (this.#seq !== null && data.seq !== this.#seq + 1) this.#ask();
      this.#seq = data.seq;
    }
    this.#take(name, data.data, data.ts);
  }

  async #ask() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const answer = await fetch("api/state", { cache: "no-store" });
      if (answer.ok) {
        const snapshot = await answer.json();
        this.#seq = Math.max(this.#seq ?? 0, snapshot.seq);
        this.#take("snapshot", snapshot, snapshot.ts);
      }
    } catch {
      // The stream's own silence is what the page shows.
    } finally {
      this.#isAsking = false;
    }
  }
}
