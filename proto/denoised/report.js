"use strict";

const AMPLIFICATION = 8;
const HANDLE_REACH_PX = 24;
const PAN_STEP_PX = 40;
const CAPTIONS = {
  slider: "Drag the line, or use the arrow keys. Zoomed in, drag beside the line to move the picture.",
  removed: "Before minus after, eight times as strong, around grey. Edges of the picture in it are detail that was lost.",
  left: "After minus the clean original, eight times as strong, around grey: the error that is left.",
};

document.querySelectorAll(".card").forEach(setUpCard);
document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => sortBy(button)));

function setUpCard(card) {
  const stage = card.querySelector(".stage");
  const range = card.querySelector("input[type=range]");
  const caption = card.querySelector(".caption");
  const view = { zoom: 1, x: 0, y: 0 };

  const cutAt = (percent) => {
    range.value = percent;
    stage.style.setProperty("--cut", `${range.value}%`);
  };

  const place = (zoom, x, y) => {
    view.zoom = zoom;
    view.x = Math.min(0, Math.max(stage.clientWidth * (1 - zoom), x));
    view.y = Math.min(0, Math.max(stage.clientHeight * (1 - zoom), y));
    stage.style.setProperty("--zoom", zoom);
    stage.style.setProperty("--x", `${view.x}px`);
    stage.style.setProperty("--y", `${view.y}px`);
    stage.classList.toggle("zoomed", zoom > 1);
  };

  // Zooms so that the point of the picture under (x, y) of the stage stays there.
  const zoomTo = (zoom, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const factor = zoom / view.zoom;
    place(zoom, x - (x - view.x) * factor, y - (y - view.y) * factor);
    card.querySelector(`input[name^=zoom][value="${zoom}"]`).checked = true;
  };

  const show = (name) => {
    stage.dataset.view = name;
    range.disabled = name !== "slider";
    caption.textContent = CAPTIONS[name];
    if (name !== "slider") drawDifference(card, name);
  };

  range.addEventListener("input", () => cutAt(range.value));
  card.querySelectorAll("input[name^=view]").forEach((radio) => radio.addEventListener("change", () => show(radio.value)));
  card.querySelectorAll("input[name^=zoom]").forEach((radio) => radio.addEventListener("change", () => zoomTo(+radio.value)));
  window.addEventListener("resize", () => place(view.zoom, view.x, view.y));

  stage.addEventListener("dblclick", (event) => {
    const box = stage.getBoundingClientRect();
    zoomTo(view.zoom > 1 ? 1 : 4, event.clientX - box.left, event.clientY - box.top);
  });

  stage.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = steps[event.key];
    if (!step || view.zoom === 1) return;
    event.preventDefault();
    place(view.zoom, view.x + step[0] * PAN_STEP_PX, view.y + step[1] * PAN_STEP_PX);
  });

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = stage.getBoundingClientRect();
    const fromHandle = Math.abs(event.clientX - box.left - (box.width * range.value) / 100);
    const cuts = stage.dataset.view === "slider" && (view.zoom === 1 || fromHandle <= HANDLE_REACH_PX);
    const start = { x: view.x - event.clientX, y: view.y - event.clientY };
    const move = (now) => {
      if (cuts) cutAt(((now.clientX - box.left) / box.width) * 100);
      else place(view.zoom, start.x + now.clientX, start.y + now.clientY);
    };
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", move);
    const stop = () => stage.removeEventListener("pointermove", move);
    stage.addEventListener("pointerup", stop, { once: true });
    stage.addEventListener("pointercancel", stop, { once: true });
    if (cuts) move(event);
  });

  show("slider");
}

async function drawDifference(card, name) {
  const canvas = card.querySelector("canvas");
  if (canvas.dataset.shows === name) return;
  canvas.dataset.shows = name;
  const after = card.querySelector(".after img");
  const [minuend, subtrahend] =
    name === "removed" ? [card.querySelector(".before img"), after] : [after, card.querySelector(".original")];
  const [a, b] = await Promise.all([minuend, subtrahend].map(pixelsOf));
  if (canvas.dataset.shows !== name) return;
  for (let i = 0; i < a.data.length; i += 4) {
    for (let c = i; c < i + 3; c++) a.data[c] = 128 + AMPLIFICATION * (a.data[c] - b.data[c]);
    a.data[i + 3] = 255;
  }
  canvas.width = a.width;
  canvas.height = a.height;
  canvas.getContext("2d").putImageData(a, 0, 0);
}

async function pixelsOf(image) {
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function sortBy(button) {
  const heading = button.closest("th");
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    return descending ? -order : order;
  });
  heading.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}
