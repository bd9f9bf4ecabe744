// <ip-chart>: curves over time, drawn by uPlot. What it shows stands in a table beside it as well.
import uPlot from "../vendor/uplot/uPlot.esm.js";

/**
 * @typedef {{ label: string, side: "original" | "compressed", dashed?: boolean, values: (number | null)[] }} Curve
 * @typedef {{ at: number[], curves: Curve[], format: (value: number | null) => string }} ChartData
 */

const HEIGHT = 168;

class Chart extends HTMLElement {
  /** @type {any} */ #plot = null;
  /** @type {ChartData | null} */ #data = null;
  /** @type {ResizeObserver | null} */ #observer = null;
  #restyle = () => this.#draw();

  /** @param {ChartData} value */
  set data(value) {
    const same = this.#data !== null && this.#data.curves.length === value.curves.length
      && this.#data.curves.every((curve, i) => curve.label === value.curves[i].label);
    this.#data = value;
    if (this.#plot !== null && same) this.#plot.setData(columns(value));
    else if (this.isConnected) this.#draw();
  }

  connectedCallback() {
    this.#observer = new ResizeObserver(() => {
      this.#plot?.setSize({ width: this.clientWidth, height: HEIGHT });
    });
    this.#observer.observe(this);
    addEventListener("infoprune-theme", this.#restyle);
    this.#draw();
  }

  disconnectedCallback() {
    this.#observer?.disconnect();
    removeEventListener("infoprune-theme", this.#restyle);
    this.#plot?.destroy();
    this.#plot = null;
  }

  #draw() {
    if (this.#data === null) return;
    this.#plot?.destroy();
    this.#plot = new uPlot(options(this.#data, this.clientWidth || 300, this), columns(this.#data), this);
  }
}

/** @param {ChartData} data */
const columns = (data) => [data.at, ...data.curves.map((curve) => curve.values)];

/** @param {ChartData} data @param {number} width @param {HTMLElement} element */
function options(data, width, element) {
  const style = getComputedStyle(element);
  const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: color("--soft-drawn"), font: "11px system-ui", size: 22, ticks: { show: false },
    grid: { stroke: color("--line-drawn"), width: 1 },
  };
  return {
    width, height: HEIGHT, padding: [8, 8, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    legend: { show: false },
    scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ _low, /** @type {number | null} */ high) => [0, high ? 1.1 * high : 1] } },
    axes: [
      { ...axis, space: 70 },
      { ...axis, size: 58, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(data.format) },
    ],
    series: [
      {},
      ...data.curves.map((curve) => ({
        label: curve.label, stroke: color(`--${curve.side}-drawn`), width: curve.dashed ? 1.25 : 2.25,
        dash: curve.dashed ? [4, 4] : undefined, points: { show: false }, spanGaps: false,
      })),
    ],
  };
}

customElements.define("ip-chart", Chart);
