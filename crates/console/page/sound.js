// Sound, off until somebody asks for it: bells for additions, plucks for removals, a chord for a rebalance.

const PER_MINUTE = 90;
const SCALE = [0, 2, 4, 7, 9];
const LOWEST_HZ = 130;
const HIGHEST_STEP = 24;

export class Sound {
  #context = null;
  #played = [];
  volume = 0.25;

  get isOn() {
    return this.#context !== null;
  }

  toggle() {
    if (this.#context) {
      this.#context.close();
      this.#context = null;
    } else {
      this.#context = new AudioContext();
    }
    return this.isOn;
  }

  /** Larger changes sound lower. */
  edit(delta) {
    const size = Math.min(1, Math.log10(1 + Math.abs(delta)) / 5);
    const step = Math.round((1 - size) * HIGHEST_STEP);
    this.#tone(step, delta < 0 ? "triangle" : "sine", delta < 0 ? 0.25 : 0.9, 1);
  }

  rebalance() {
    for (const step of [0, 2, 4]) this.#tone(step, "sine", 1.6, 1.4);
  }

  #tone(step, shape, length, loudness) {
    if (!this.#context) return;
    const now = performance.now();
    this.#played = this.#played.filter((at) => now - at < 60_000);
    if (this.#played.length >= PER_MINUTE) return;
    this.#played.push(now);
    const octave = Math.floor(step / SCALE.length) * 12;
    const start = this.#context.currentTime;
    const [tone, gain] = [this.#context.createOscillator(), this.#context.createGain()];
    tone.type = shape;
    tone.frequency.value = LOWEST_HZ * 2 ** ((octave + SCALE[step % SCALE.length]) / 12);
    gain.gain.setValueAtTime(0.0001, start);
    gain.gain.exponentialRampToValueAtTime(this.volume * loudness * 0.4, start + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, start + length);
    tone.connect(gain).connect(this.#context.destination);
    tone.start(start);
    tone.stop(start + length);
  }
}
