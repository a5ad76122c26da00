// What a person chose: view, theme, filters, sound. Filters and view live in the address, the rest in this browser.

const DEFAULTS = { wiki: "all", bots: "on", namespace: "all", title: "", replica: "" };
const VIEWS = ["board", "partitions", "table"];
const NARROW = 600;

function kept(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing forgets this one choice.
  }
}

export class Settings {
  filter = { ...DEFAULTS };
  isPaused = false;
  isKiosk = false;
  view = "board";

  constructor() {
    const address = new URLSearchParams(location.search);
    for (const name of Object.keys(DEFAULTS)) this.filter[name] = address.get(name) ?? DEFAULTS[name];
    const narrow = innerWidth < NARROW ? "partitions" : "board";
    this.view = VIEWS.includes(address.get("view")) ? address.get("view") : narrow;
    this.isKiosk = address.get("kiosk") === "1";
    document.documentElement.dataset.theme = this.theme;
    document.body.classList.toggle("is-kiosk", this.isKiosk);
  }

  get theme() {
    return kept("wiki-theme", "auto");
  }

  set theme(value) {
    keep("wiki-theme", value);
    document.documentElement.dataset.theme = value;
  }

  /** Single keys act as shortcuts. */
  get hasKeys() {
    return kept("wiki-keys", "on") === "on";
  }

  set hasKeys(isOn) {
    keep("wiki-keys", isOn ? "on" : "off");
  }

  setFilter(name, value) {
    this.filter[name] = value;
    this.#toAddress();
  }

  setView(view) {
    this.view = view;
    this.#toAddress();
  }

  #toAddress() {
    const address = new URLSearchParams(location.search);
    const put = (name, value, otherwise) => (value === otherwise ? address.delete(name) : address.set(name, value));
    for (const [name, value] of Object.entries(this.filter)) put(name, value, DEFAULTS[name]);
    put("view", this.view, innerWidth < NARROW ? "partitions" : "board");
    history.replaceState(null, "", address.size > 0 ? `?${address}` : location.pathname);
  }
}
