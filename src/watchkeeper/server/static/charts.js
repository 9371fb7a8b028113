// Draws the figures that the page carries, in the reader's theme and at the page's width.
/* global Plotly */

const themes = JSON.parse(document.getElementById("chart-themes").textContent);
const narrow = matchMedia("(max-width: 640px)");
const coarse = matchMedia("(pointer: coarse)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const config = { responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "reset" };

function theme() {
  const name = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  return themes[name];
}

const map = (source) => source.data.some((trace) => trace.type === "heatmap");

function layout(figure, source) {
  const height = Number(figure.dataset.height);
  const top = figure.layoutTop ?? 40;
  const out = structuredClone(source);
  out.template = theme();
  out.height = height;
  out.dragmode = coarse.matches ? false : "zoom";
  out.margin = { l: narrow.matches ? 44 : 60, r: 14, t: top, b: 56 };
  if (narrow.matches) {
    out.font = { size: 11 };
    out.xaxis = { ...out.xaxis, nticks: 4, tickangle: 0 };
    if (map(figure.source)) {
      const names = figure.source.data[0].y;
      const short = names.map((name) => (name.length > 15 ? `${name.slice(0, 14)}…` : name));
      out.yaxis = { ...out.yaxis, tickmode: "array", tickvals: names, ticktext: short };
    }
  }
  return out;
}

function address(pattern, point) {
  const column = point.customdata?.[0] ?? point.y;
  const day = String(point.x).slice(0, 10);
  return pattern.replace("{column}", encodeURIComponent(column)).replace("{day}", day);
}

async function draw(figure) {
  const plot = figure.querySelector(".plot");
  const source = JSON.parse(figure.querySelector("script").textContent);
  const named = source.data.filter((trace) => trace.showlegend !== false && trace.type !== "heatmap");
  const legend = source.layout.showlegend ?? named.length > 1;
  figure.source = source;
  figure.layoutTop = legend ? 40 : 14;
  if (map(source) && narrow.matches) Object.assign(source.data[0].colorbar, { len: 0.95 });
  const redraw = () => Plotly.react(plot, source.data, layout(figure, source.layout), config);
  await Plotly.newPlot(plot, source.data, layout(figure, source.layout), config);
  document.addEventListener("themechange", redraw);
  narrow.addEventListener("change", redraw);
  if (figure.dataset.link) {
    plot.classList.add("linked");
    plot.on("plotly_click", (event) => location.assign(address(figure.dataset.link, event.points[0])));
  }
  figure.dataset.drawn = "true";
}

for (const figure of document.querySelectorAll("figure.chart")) await draw(figure);
document.documentElement.dataset.charts = "drawn";
